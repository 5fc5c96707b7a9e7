"""The dynamic studies among the files of a folder: each is understood, or refused with its reason."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from seqnorm_monai.images.dicom.volume import Volume
from seqnorm_monai.images.dynamic.candidates import Candidate, candidate, other_than_a_phase
from seqnorm_monai.images.dynamic.choose import Choice, UnclearStudyError, choose_phases
from seqnorm_monai.images.dynamic.named_files import named_studies
from seqnorm_monai.images.dynamic.study import DynamicPhase, DynamicStudy, DynamicStudyError
from seqnorm_monai.images.inventory import ImageEntry, Inventory
from seqnorm_monai.images.records import FileRecord, FileStatus
from seqnorm_monai.images.rules import Selection
from seqnorm_monai.images.sources import Sources


@dataclass(frozen=True)
class FoundStudies:
    """`studies` that were understood, `refused` ones, and a record of every file that is part of no study's phases."""

    studies: tuple[DynamicStudy, ...]
    refused: tuple[DynamicStudyError, ...]
    files: tuple[FileRecord, ...]


def find_studies(
    inventory: Inventory, sources: Sources, rules: Sequence[Selection] = (), *, any_grid: bool = False
) -> FoundStudies:
    """Sort the images of an inventory into dynamic studies, by StudyInstanceUID; of NIfTI files by their names.

    `any_grid`: phases on another grid than pre are no refusal; they are resampled when they are read.
    Nothing raises for a study. A study without two volumes that may be phases is none: its files are set aside.
    """
    studies, refused, reasons = [], [], {}
    for entries in _by_study(inventory):
        candidates = []
        for entry in entries:
            if reason := other_than_a_phase(entry):
                reasons |= dict.fromkeys(entry.names, (FileStatus.SET_ASIDE, reason))
            else:
                candidates.append(candidate(entry))
        try:
            _check_unread(inventory, entries[0].row.study, candidates)
            choice = choose_phases(candidates, rules, any_grid=any_grid)
        except UnclearStudyError as error:
            path = os.path.join(sources.folder, entries[0].names[0])
            refused.append(DynamicStudyError(path, f"no dynamic study: {error}"))
            names = [name for one in candidates for name in one.entry.names]
            reasons |= dict.fromkeys(names, (FileStatus.REJECTED, f"no dynamic study: {error}"))
            continue
        for one in candidates:
            if id(one) in choice.aside:
                reasons |= dict.fromkeys(one.entry.names, (FileStatus.SET_ASIDE, choice.aside[id(one)]))
        studies.append(_study(choice, sources))
    named = named_studies(
        [entry for entry in inventory.entries if not isinstance(entry.volume, Volume)], sources, any_grid=any_grid
    )
    studies += named.studies
    refused += named.refused
    reasons |= named.reasons
    used = {name for study in studies for name in study.names}
    files = [_record(record, reasons) for record in inventory.files if record.path not in used]
    return FoundStudies(tuple(studies), tuple(refused), tuple(files))


def _check_unread(inventory: Inventory, study: int, candidates: Sequence[Candidate]) -> None:
    """Refuse a study of which a series cannot be read: it may be a phase, and the phases after it would be misnamed."""
    unread = [row for row in inventory.refused if row.study == study and row.modality in ("", "MR")]
    if unread and candidates:
        texts = (f"series {row.series} ({'; '.join(row.reasons)})" for row in unread)
        advice = "repair it, or take it out"
        raise UnclearStudyError(f"{', '.join(texts)} cannot be read, and may be one of its phases: {advice}")


def _by_study(inventory: Inventory) -> list[list[ImageEntry]]:
    studies: dict[int, list[ImageEntry]] = {}
    for entry in inventory.entries:
        if isinstance(entry.volume, Volume):
            studies.setdefault(entry.row.study, []).append(entry)
    return list(studies.values())


def _study(choice: Choice, sources: Sources) -> DynamicStudy:
    phases: tuple[DynamicPhase, ...] = choice.phases
    path = os.path.join(sources.folder, phases[0].entry.names[0])
    return DynamicStudy(path, phases, choice.clock, choice.decided, sources.folder, choice.t2, sources.unpacked)


def _record(record: FileRecord, reasons: dict[str, tuple[FileStatus, str]]) -> FileRecord:
    if record.status != FileStatus.USED or record.path not in reasons:
        return record
    status, reason = reasons[record.path]
    return FileRecord(record.path, status, reason, record.study, record.series)
