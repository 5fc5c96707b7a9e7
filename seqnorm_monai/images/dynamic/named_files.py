"""Dynamic studies in NIfTI, MetaImage or NRRD, where the names of the files say which phase each is.

Known are ``Pre, Post_1, Post_2 ...`` (ODELIA) and ``pre, post_1 ...`` in a folder for each study, ``ID_0000, ID_0001``
and so on (MAMA-MIA) beside each other, and one file of four dimensions for each study.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePath

from seqnorm_monai.images.dynamic.choose import T2_ASIDE
from seqnorm_monai.images.dynamic.grids import Grid
from seqnorm_monai.images.dynamic.study import DynamicPhase, DynamicStudy, DynamicStudyError
from seqnorm_monai.images.inventory import ImageEntry
from seqnorm_monai.images.records import FileStatus
from seqnorm_monai.images.sources import Sources

_WORDS = re.compile(r"(?:(.+)[_-])?(pre|post[_-]?(\d+))", re.IGNORECASE)
_T2 = re.compile(r"(?:(.+)[_-])?t2", re.IGNORECASE)
_NUMBERED = re.compile(r"(.+)_(\d{4})")
_SUFFIXES = re.compile(r"\.(nii|nii\.gz|hdr|hdr\.gz|mha|mhd|nrrd|nhdr)$", re.IGNORECASE)
_BY_NAME, _BY_INDEX = "the names of the files", "the fourth dimension"


@dataclass
class NamedStudies:
    """As `FoundStudies`, with the reasons of files that are part of none."""

    studies: list[DynamicStudy] = field(default_factory=list)
    refused: list[DynamicStudyError] = field(default_factory=list)
    reasons: dict[str, tuple[FileStatus, str]] = field(default_factory=dict)


def named_studies(entries: Iterable[ImageEntry], sources: Sources, *, any_grid: bool = False) -> NamedStudies:
    """Group volumes without DICOM by their names; a file that fits no pattern is set aside."""
    found = NamedStudies()
    groups: dict[tuple[str, str], list[tuple[int, ImageEntry]]] = {}
    t2: dict[str, tuple[ImageEntry, ...]] = {}
    for entry in entries:
        if (key := _t2_of(entry)) is not None:
            t2[key] = (*t2.get(key, ()), entry)
            found.reasons |= dict.fromkeys(entry.names, (FileStatus.SET_ASIDE, T2_ASIDE))
            continue
        place = _place(entry)
        if place is None:
            reason = "neither pre nor post by its name, nor of four dimensions"
            found.reasons |= dict.fromkeys(entry.names, (FileStatus.SET_ASIDE, reason))
        else:
            groups.setdefault(place[0], []).append((place[1], entry))
    for (key, _), group in groups.items():
        group.sort(key=lambda pair: pair[0])
        _add(found, group, sources, t2.get(key, ()), any_grid)
    return found


def _t2_of(entry: ImageEntry) -> str | None:
    """The key of the study that a volume named T2 belongs to."""
    path = PurePath(entry.row.name)
    match = _T2.fullmatch(_SUFFIXES.sub("", path.name))
    if match is None or entry.row.kind != "volume" or entry.row.channels != 1 or entry.row.phases > 1:
        return None
    return os.path.join(path.parent.as_posix(), match[1] or "")


def _place(entry: ImageEntry) -> tuple[tuple[str, str], int] | None:
    """The study that a volume belongs to, and its number there; 0 is pre."""
    path = PurePath(entry.row.name)
    stem = _SUFFIXES.sub("", path.name)
    if entry.row.kind != "volume" or entry.row.channels != 1:
        return None
    if entry.row.phases > 1:
        return (entry.row.name, _BY_INDEX), entry.row.phase - 1
    if match := _WORDS.fullmatch(stem):
        key = os.path.join(path.parent.as_posix(), match[1] or "")
        return (key, _BY_NAME), int(match[3]) if match[3] else 0
    if match := _NUMBERED.fullmatch(stem):
        return (os.path.join(path.parent.as_posix(), match[1]), _BY_NAME), int(match[2])
    return None


def _add(
    found: NamedStudies,
    group: list[tuple[int, ImageEntry]],
    sources: Sources,
    t2: tuple[ImageEntry, ...],
    any_grid: bool,
) -> None:
    numbers, entries = [number for number, _ in group], [entry for _, entry in group]
    path = os.path.join(sources.folder, entries[0].names[0])
    if problem := _problem(numbers, entries, any_grid):
        found.refused.append(DynamicStudyError(path, f"no dynamic study: {problem}"))
        names = [name for entry in entries for name in entry.names]
        found.reasons |= dict.fromkeys(names, (FileStatus.REJECTED, f"no dynamic study: {problem}"))
        return
    times = [getattr(entry.volume, "phase_time", None) for entry in entries]
    known = None not in times
    phases = tuple(
        DynamicPhase(entry, f"post_{place}" if place else "pre", times[place] - times[0] if known else None)
        for place, entry in enumerate(entries)
    )
    clock = _BY_INDEX if entries[0].row.phases > 1 else _BY_NAME
    decided = "the first volume" if clock == _BY_INDEX else _BY_NAME
    found.studies.append(DynamicStudy(path, phases, clock, decided, sources.folder, t2, sources.unpacked))


def _problem(numbers: list[int], entries: list[ImageEntry], any_grid: bool) -> str:
    names = ", ".join(PurePath(entry.row.name).name for entry in entries)
    if numbers[0] != 0:
        return f"pre is missing: {names}"
    if len(numbers) == 1:
        return f"post is missing: {names}"
    if numbers != list(range(len(numbers))):
        return f"a phase is missing or stands twice: {names}"
    first = Grid(entries[0].row.shape, entries[0].row.affine)
    for entry in entries[1:]:
        grid = Grid(entry.row.shape, entry.row.affine)
        if (reason := grid.difference(first)) and not (any_grid and grid.can_be_resampled(first)):
            return f"{PurePath(entry.row.name).name} has {reason}"
    return ""
