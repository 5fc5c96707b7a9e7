"""Paths as arguments: what a command line made of a name that looks like a number or a list is refused by name."""

from __future__ import annotations

import os


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
        f"a list or None needs ./ before it on a command line, such as ./2024, or its whole path"
    )
