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


def find_read_error(exception: BaseException | None) -> ImageReadError | None:
    """The `ImageReadError` (of DICOM or NIfTI) that led to `exception`, or None.

    MONAI's `Compose` raises ``RuntimeError("applying transform ...")`` from the original error; this walks
    ``__cause__`` and ``__context__`` back to it. A DataLoader with worker processes passes on the text of an
    exception only: there the message still names file and reason, but nothing is left to find.
    """
    seen: set[int] = set()
    waiting = [exception]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        if isinstance(current, ImageReadError):
            return current
        seen.add(id(current))
        waiting += [current.__context__, current.__cause__]
    return None
