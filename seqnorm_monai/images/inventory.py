"""What is in a folder: a row for every phase of every series, and a record of every file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from monai.data import MetaTensor

from seqnorm_monai.images.dicom.series import ScannedStudies, Series, read_studies
from seqnorm_monai.images.dicom.volume import load_volume
from seqnorm_monai.images.errors import ImageReadError
from seqnorm_monai.images.nifti import NiftiVolume, is_nifti, load_nifti, read_nifti, voxel_file
from seqnorm_monai.images.records import FileRecord
from seqnorm_monai.images.rows import Row, dicom_row, nifti_row, refused_row, series_number
from seqnorm_monai.images.rules import Selection, select_series
from seqnorm_monai.images.sources import SourceFile, Sources

_NOT_CHOSEN = "not chosen by the rules"
# how `read_studies` opens the reason of a good file whose neighbours are bad
_OF_SERIES = "its series is refused: "
# reasons of one series that its row names
_MAX_REASONS = 3


@dataclass(frozen=True)
class Entry:
    """A row, how to read its pixels, and the names and places of the files that they come from.

    `derived`: the kind of a computed map, "" for an image as it was acquired. `stack`: equal for volumes of one series
    whose voxels lie at the same places, its phases. `attributes`: what selection rules ask for, {} for NIfTI.
    """

    row: Row
    load: Callable[[], MetaTensor]
    names: tuple[str, ...]
    paths: tuple[Path, ...]
    stack: int
    derived: str = ""
    attributes: Mapping[str, object] = field(default_factory=dict)


@dataclass
class Listing:
    """The entries of a folder, the rows of what is refused of its series, and its files, one record each."""

    entries: list[Entry]
    files: list[FileRecord]
    refused: list[Row] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        """All rows, by study and series, what is refused of a series behind its images."""
        rows = [entry.row for entry in self.entries] + self.refused
        return sorted(rows, key=lambda row: (row.study, row.series, row.status == "rejected"))

    def change(self, entry: Entry, **fields: object) -> None:
        """Change fields of an entry's row."""
        place = next(place for place, one in enumerate(self.entries) if one.row is entry.row)
        self.entries[place] = replace(entry, row=replace(entry.row, **fields))

    def reject(self, entry: Entry, error: ImageReadError) -> None:
        """Account for an entry whose pixels turned out to be unreadable.

        Its row says so. The file that `error` names is rejected with its reason, the others because of it, except
        for files that another entry uses, too: they stay used, with the reason.
        """
        self.change(entry, status="rejected", problems=(*entry.row.problems, error.reason))
        culprits = {name for name, path in zip(entry.names, entry.paths, strict=False) if path == error.path}
        culprit = f"{min(culprits)}: " if culprits else ""
        shared = {name for one in self.entries if one.row.status == "used" for name in one.names}
        for names, reason in (
            (culprits, error.reason),
            (set(entry.names) - culprits, _OF_SERIES + culprit + error.reason),
        ):
            self.mark(names - shared, "rejected", reason)
            self.mark(names & shared, "used", f"in part, elsewhere {error.reason}")

    def mark(self, names: set[str], status: str, reason: str) -> None:
        """Change the records of the files with these names that were used so far."""
        # an archive may hold two members of one name, of which one is refused
        changed = {"status": status, "reason": reason}
        hit = [one.path in names and one.status == "used" for one in self.files]
        self.files = [replace(one, **changed) if of else one for one, of in zip(self.files, hit, strict=True)]


def list_sources(
    sources: Sources, rules: Iterable[Selection] | None = None, *, all_matched: bool = False, num_workers: int = 0
) -> Listing:
    """Read the headers of all files; with `rules`, keep the series that they choose and set the others' files aside.

    NIfTI files have no DICOM attributes: no rule chooses them. Nothing raises for a file. Headers are read in
    `num_workers` processes if above 0.
    """
    nifti = [file for file in sources.files if is_nifti(file.path)]
    partners = {os.path.realpath(path) for path in (voxel_file(file.path) for file in nifti) if path is not None}
    paths = {file.path for file in nifti}
    voxels = [file for file in sources.files if file.path not in paths and os.path.realpath(file.path) in partners]
    paths |= {file.path for file in voxels}
    dicom = [file for file in sources.files if file.path not in paths]
    report = read_studies(dicom, sources.refused, num_workers=num_workers)
    listing = Listing([], list(report.files))
    _add_dicom(listing, report)
    _add_nifti(listing, nifti, voxels)
    listing.files.sort(key=lambda record: record.path)
    if rules is not None:
        _choose(listing, list(rules), all_matched=all_matched)
    return listing


def check_pixels(listing: Listing) -> None:
    """Decode every image, one after the other, and reject those that cannot be."""
    for entry in list(listing.entries):
        try:
            entry.load()
        except ImageReadError as error:
            listing.reject(entry, error)


def _add_dicom(listing: Listing, report: ScannedStudies) -> None:
    """Studies in the order of their UIDs; in each the series by SeriesNumber, then by UID."""
    rejected: dict[tuple[str, str], list[FileRecord]] = {}
    for record in report.files:
        if record.status == "rejected" and record.series:
            rejected.setdefault((record.study, record.series), []).append(record)
    found: list[tuple[tuple[str, str], Series | None]] = []
    found += [((one.study_instance_uid, one.series_instance_uid), one) for one in report.series]
    known = {uids for uids, _ in found}
    found += [(uids, None) for uids in rejected if uids not in known]
    found.sort(key=_order)
    studies: dict[str, int] = {}
    numbers: dict[int, int] = {}
    for uids, series in found:
        study = studies.setdefault(uids[0], len(studies) + 1)
        numbers[study] = number = numbers.get(study, 0) + 1
        if series is not None:
            listing.entries += _entries(series, study, number)
        files, problems = _refused(rejected.get(uids, []), series)
        if files:
            modality = "" if series is None else series.modality
            row = refused_row(study, number, uids, files, problems, modality=modality, series_number=_number(series))
            listing.refused.append(row)


def _order(found: tuple[tuple[str, str], Series | None]) -> tuple[object, ...]:
    (study, uid), series = found
    number = _number(series)
    return _numeric(study), number is None, number or 0, _numeric(uid)


def _number(series: Series | None) -> int | None:
    """SeriesNumber, where there is an image to ask."""
    volumes = () if series is None else series.volumes
    return series_number(volumes[0].attributes.get("SeriesNumber")) if volumes else None


def _numeric(uid: str) -> tuple[int, ...]:
    """UIDs as their numbers compare: 1.9 stands in front of 1.10."""
    return tuple(int(part) for part in uid.split(".") if part.isdecimal())


def _entries(series: Series, study: int, number: int) -> list[Entry]:
    stacks: dict[int, int] = {}
    for volume in series.volumes:
        stacks[volume.stack] = stacks.get(volume.stack, 0) + 1
    seen: dict[int, int] = {}
    entries = []
    for volume in series.volumes:
        seen[volume.stack] = phase = seen.get(volume.stack, 0) + 1
        row = dicom_row(volume, study, number, stacks=len(stacks), phase=phase, phases=stacks[volume.stack])
        paths = tuple(dict.fromkeys(plane.path for plane in volume.planes))
        load = partial(load_volume, volume)
        entries.append(Entry(row, load, volume.files, paths, volume.stack, volume.derived, volume.attributes))
    return entries


def _refused(records: Sequence[FileRecord], series: Series | None) -> tuple[int, tuple[str, ...]]:
    """How many files of a series are refused, also in part, and the reasons, each once."""
    files = {record.path for record in records}
    reasons = [record.reason.removeprefix(_OF_SERIES) for record in records]
    for error in () if series is None else series.errors:
        files |= set(error.files)
        if not any(error.reason.removeprefix(_OF_SERIES) in reason for reason in reasons):
            reasons.append(error.reason.removeprefix(_OF_SERIES))
    distinct = list(dict.fromkeys(reasons))
    more = len(distinct) - _MAX_REASONS
    return len(files), (*distinct[:_MAX_REASONS], *([f"and {more} other reasons"] if more > 0 else []))


def _add_nifti(listing: Listing, files: Sequence[SourceFile], voxels: Sequence[SourceFile]) -> None:
    """The volumes of NIfTI files as the last study, and the records of these files and of those with their voxels."""
    study = 1 + max((row.study for row in listing.rows), default=0)
    series = 0
    waiting = {os.path.realpath(file.path): file.name for file in voxels}
    for file in files:
        partner = voxel_file(file.path)
        # a record is made once, also where two headers name one file of voxels
        own = None if partner is None else waiting.pop(os.path.realpath(partner), None)
        names = (file.name,) if own is None else (file.name, own)
        volumes: list[NiftiVolume] = []
        try:
            volumes = read_nifti(file.path)
        except ImageReadError as error:
            reason = error.reason + (f" ({error.advice})" if error.advice else "")
            listing.files += [FileRecord(name, "rejected", reason) for name in names]
            continue
        series += 1
        listing.files += [FileRecord(name, "used") for name in names]
        for volume in volumes:
            row = nifti_row(volume, study, series, names)
            listing.entries.append(Entry(row, partial(load_nifti, volume), names, volume.files, stack=0))


def _choose(listing: Listing, rules: list[Selection], *, all_matched: bool) -> None:
    """Keep the entries of chosen series; a series is known by the attributes of its first image."""
    firsts: dict[tuple[int, int], Entry] = {}
    for entry in listing.entries:
        firsts.setdefault((entry.row.study, entry.row.series), entry)
    attributes = [
        {**entry.attributes, "StudyInstanceUID": entry.row.study_instance_uid} if entry.attributes else {}
        for entry in firsts.values()
    ]
    places = list(firsts)
    chosen = {places[one.index] for one in select_series(attributes, rules, all_matched=all_matched)}
    kept = [entry for entry in listing.entries if (entry.row.study, entry.row.series) in chosen]
    used = {name for entry in kept for name in entry.names}
    listing.mark({name for entry in listing.entries for name in entry.names} - used, "set_aside", _NOT_CHOSEN)
    listing.entries = kept
