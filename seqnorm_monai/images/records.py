"""What became of one file: the row that `files.csv` holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FileRecord:
    """`status`: predicted, used, set_aside, rejected or found; `reason` says why where it is not used.

    `path` is the name that is shown; `study` and `series` are UIDs, "" where the file has none.
    """

    path: str
    status: str
    reason: str = ""
    study: str = ""
    series: str = ""
