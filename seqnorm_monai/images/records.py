"""What became of one file: the row that `files.csv` holds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class FileStatus(str, Enum):
    """What became of a file; the values are the words of `files.csv` and of the JSON of a listing.

    `PREDICTED`: a prediction stands for it. `USED`: it is part of an image. `SET_ASIDE`: it is in order, and no image
    that was asked for. `REJECTED`: it cannot be read.
    """

    PREDICTED = "predicted"
    USED = "used"
    SET_ASIDE = "set_aside"
    REJECTED = "rejected"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class FileRecord:
    """`reason` says why a file has its `status` where it is not used.

    `path` is the name that is shown; `study` and `series` are UIDs, "" where the file has none. `is_document`: a table,
    a text, a program, which nobody took for an image.
    """

    path: str
    status: FileStatus
    reason: str = ""
    study: str = ""
    series: str = ""
    is_document: bool = False
