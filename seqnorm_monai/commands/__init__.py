"""The command line: one program, with a module for each of its commands.

A command is imported when it is called, so that ``seqnorm --help`` takes no time, and one that needs no torch gets
none.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from seqnorm_monai.version import __version__

# name: (module, what it does)
_COMMANDS = {
    "check": ("check", "what stands in the way of a training: labels, images, machine, time"),
    "list": ("listing", "what is in a folder, archive or medium, and what cannot be read"),
    "prepare": ("prepare", "a datalist from a table of labels, every patient in one split"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names; the exit code, 2 for a command line that is wrong."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = given[0] if given else "--help"
    if name in ("-h", "--help"):
        print(_help())
        return 0 if given else 2
    if name == "--version":
        print(f"seqnorm {__version__}")
        return 0
    if name not in _COMMANDS:
        print(f"seqnorm: there is no command {name!r}; it is one of {', '.join(_COMMANDS)}", file=sys.stderr)
        return 2
    module = import_module(f"{__name__}.{_COMMANDS[name][0]}")
    return module.main(given[1:])


def _help() -> str:
    lines = ["usage: seqnorm COMMAND ...", ""]
    lines += [f"  {name:<10}{says}" for name, (_, says) in _COMMANDS.items()]
    lines += ["", "seqnorm COMMAND --help tells what a command takes."]
    lines += ["Training, evaluation and inference run as python -m monai.bundle: see the page of a bundle."]
    return "\n".join(lines)
