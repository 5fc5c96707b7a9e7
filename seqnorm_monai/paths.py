"""Options of a run as MONAI's command line hands them over: what it made of them is refused by name, not guessed at."""

from __future__ import annotations

import os

from seqnorm_monai.monai_options import typed_options

_WAY_OUT = "needs ./ before it on a command line, such as {}, or its whole path"


def require_path(value: object, argument: str) -> str:
    """`value` as the text of a path.

    ``python -m monai.bundle run`` takes its options through Fire, which makes a number of 2024, 20240105 and 1e5, a
    tuple of ``a,b``, and None of ``None``. The name as it was written is lost then (2_024 is the number 2024, too), so
    nothing is guessed.

    Raises:
        TypeError: if `value` is neither a string nor a path; the message names the argument and the way out.
    """
    if isinstance(value, (str, os.PathLike)):
        return os.fspath(value)
    raise TypeError(
        f"argument {argument} must be a path; got {value!r} ({type(value).__name__}). A name that looks like a number, "
        "a list or None " + _WAY_OUT.format("./2024")
    )


def require_paths(**values: object) -> None:
    """Check the options of a run, each by its name, before anything is made of them.

    Beside what `require_path` refuses there is what MONAI loses without a word: an option ``None`` is as if it had not
    been given, and ``x#1`` becomes ``x``, or ``x::1`` in quotation marks, for ``#`` separates the parts of its ids.

    Raises:
        TypeError: see `require_path`.
        ValueError: if an option is not what was typed.
    """
    typed = typed_options()
    for argument, value in values.items():
        path, text = require_path(value, argument), typed.get(argument, "")
        if text == "None" and path:
            advice = _WAY_OUT.format("./None")
            raise ValueError(f"argument {argument}: MONAI takes None for no value; a folder of this name {advice}")
        if "#" in text and text[0] not in "$@%":
            raise ValueError(
                f"argument {argument}: MONAI's configurations hold no path with the character #, and made {path!r} of "
                f"{text!r}; rename the folder, or make a link to it without that character"
            )


def require_flag(value: object, argument: str) -> bool:
    """`value` as a bool; the texts ``true`` and ``false``, which Fire leaves as texts, count as well.

    Raises:
        TypeError: for anything else; the text ``no`` would be as good as true otherwise.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise TypeError(f"argument {argument} must be true or false; got {value!r} ({type(value).__name__})")
