"""Why a file was refused, in a form that a caller can sort, report and send between processes."""

from __future__ import annotations

import os
from pathlib import Path


class ImageReadError(Exception):
    """A file that cannot be turned into an image, of whatever format.

    `path` names the file, `reason` says in a few words what is wrong with it, `advice` (may be empty) what to do.
    The text never holds a name, identifier or date out of the header: these messages end up in logs.
    `set_aside`: the file is in order, and no image of the kind asked for.
    """

    set_aside = False

    def __init__(self, path: str | os.PathLike[str], reason: str, advice: str = "") -> None:
        # All arguments, because an exception is pickled as its class and these.
        super().__init__(path, reason, advice)
        self.path = Path(path)
        self.reason = reason
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" + (f" ({self.advice})" if self.advice else "")
