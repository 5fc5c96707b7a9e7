"""What became of one file of a study's folder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FileRecord:
    """One row of the account of files.

    `path` is the name that is shown. `status`: ``predicted``, ``used`` (part of a predicted volume), ``set_aside`` (by
    a rule: localizer, other modality, report, directory, archive), ``rejected``, or ``found`` while nothing was
    decided. `reason` says why in one line. `study` and `series` are instance UIDs, "" where unknown.
    """

    path: str
    status: str
    reason: str = ""
    study: str = ""
    series: str = ""
