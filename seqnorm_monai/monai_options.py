"""The options of ``python -m monai.bundle`` as they were typed, before Fire made values of Python of them."""

from __future__ import annotations

import sys


def is_monai_command_line() -> bool:
    """Whether this process is MONAI's command line, and not another program that runs a bundle."""
    specification = getattr(sys.modules["__main__"], "__spec__", None)
    return getattr(specification, "name", "") == "monai.bundle.__main__"


def typed_options() -> dict[str, str]:
    """Name and text of each option, ``--name text`` or ``--name=text``; {} in another program."""
    if not is_monai_command_line():
        return {}
    options = {}
    for argument, following in zip(sys.argv, [*sys.argv[1:], ""], strict=True):
        if argument.startswith("--"):
            name, equals, text = argument.removeprefix("--").partition("=")
            options[name.replace("-", "_")] = text if equals else following
    return options
