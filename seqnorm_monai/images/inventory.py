"""What is in a folder: a row for every phase of every series, and a record of every file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from seqnorm_monai.images.dicom.series import ScannedStudies, Series, read_studies
from seqnorm_monai.images.dicom.volume import read_volumes as read_dicom_volumes
from seqnorm_monai.images.documents import document_kind, other_format
from seqnorm_monai.images.errors import ImageReadError
from seqnorm_monai.images.image_array import MODALITY_VALUES, ImageArray, ReadOptions
from seqnorm_monai.images.nifti import NiftiVolume, has_nifti_name, is_nifti, read_nifti, voxel_file
from seqnorm_monai.images.nifti import read_volumes as read_nifti_volumes
from seqnorm_monai.images.raster import has_raster_name, raster_format, read_raster, read_raster_image
from seqnorm_monai.images.records import FileRecord, FileStatus
from seqnorm_monai.images.rows import SeriesRow, dicom_row, nifti_row, raster_row, series_number
from seqnorm_monai.images.rules import Selection, select_series
from seqnorm_monai.images.sources import SourceFile, Sources

_NOT_CHOSEN = "not chosen by the rules"
# how `read_studies` opens the reason of a good file whose neighbours are bad
_OF_SERIES = "its series is refused: "
# reasons of one series that its row names
_MAX_REASONS = 3


# phases of one image, in their order, to one array
Reader = Callable[[Sequence[Any], ReadOptions], ImageArray]


@dataclass(frozen=True)
class ImageEntry:
    """A row, the phase of an image that it is about, and the names and places of the files that this comes from.

    `reader` reads `volume`, together with other phases on the same grid. `derived`: the kind of a computed map, "" for
    an image as it was acquired. `bits`: those of a stored value, 1 for a mask. `attributes`: what selection rules ask
    for, {} for all but DICOM.
    """

    row: SeriesRow
    reader: Reader
    volume: object
    names: tuple[str, ...]
    paths: tuple[Path, ...]
    derived: str = ""
    bits: int = 0
    attributes: Mapping[str, object] = field(default_factory=dict)

    def read(self, options: ReadOptions = MODALITY_VALUES) -> ImageArray:
        """Decode this phase alone. Raises ImageReadError."""
        return self.reader([self.volume], options)


@dataclass
class Inventory:
    """The images of a folder, the rows of what is refused of its series, and its files, one record each."""

    entries: list[ImageEntry]
    files: list[FileRecord]
    refused: list[SeriesRow] = field(default_factory=list)

    @property
    def rows(self) -> list[SeriesRow]:
        """All rows, by study and series, what is refused of a series behind its images."""
        rows = [entry.row for entry in self.entries] + self.refused
        return sorted(rows, key=lambda row: (row.study, row.series, row.status == FileStatus.REJECTED))

    def change(self, entry: ImageEntry, **fields: object) -> None:
        """Change fields of the row of an entry, which is known by its row's key."""
        place = next(place for place, one in enumerate(self.entries) if one.row.key == entry.row.key)
        current = self.entries[place]
        self.entries[place] = replace(current, row=replace(current.row, **fields))

    def reject(self, entry: ImageEntry, error: ImageReadError) -> None:
        """Account for an entry whose pixels turned out to be unreadable.

        Its row says so. The file that `error` names is rejected with its reason, the others because of it, except
        for files that another entry uses, too: they stay used, with the reason.
        """
        self.change(entry, status=FileStatus.REJECTED, reasons=(*entry.row.reasons, error.reason))
        culprits = {name for name, path in zip(entry.names, entry.paths, strict=False) if path == error.path}
        culprit = f"{min(culprits)}: " if culprits else ""
        shared = {name for one in self.entries if one.row.status == FileStatus.USED for name in one.names}
        for names, reason in (
            (culprits, error.reason),
            (set(entry.names) - culprits, _OF_SERIES + culprit + error.reason),
        ):
            self.mark(names - shared, FileStatus.REJECTED, reason)
            self.mark(names & shared, FileStatus.USED, f"in part, elsewhere {error.reason}")

    def mark(self, names: set[str], status: FileStatus, reason: str) -> None:
        """Change the records of the files with these names that were used so far."""
        # an archive may hold two members of one name, of which one is refused
        changed = {"status": status, "reason": reason}
        hit = [one.path in names and one.status == FileStatus.USED for one in self.files]
        self.files = [replace(one, **changed) if of else one for one, of in zip(self.files, hit, strict=True)]


def take_inventory(
    sources: Sources, rules: Iterable[Selection] | None = None, *, all_matched: bool = False, num_workers: int = 0
) -> Inventory:
    """Read the headers of all files; with `rules`, keep the series that they choose and set the others' files aside.

    NIfTI, PNG, JPEG and TIFF files have no DICOM attributes: no rule chooses them. Tables, texts and programs are set
    aside as documents. Nothing raises for a file. Headers are read in `num_workers` processes if above 0.
    """
    # a DICOM file need not be opened to find out that it is nothing else: what is no DICOM file is asked afterwards
    nifti = [file for file in sources.files if has_nifti_name(file.path) and is_nifti(file.path)]
    voxels = _voxels_of(nifti, sources.files)
    raster = [file for file in sources.files if has_raster_name(file.path) and raster_format(file.path)]
    known = {*nifti, *voxels, *raster}
    dicom = [file for file in sources.files if file not in known]
    report = read_studies(dicom, sources.refused, num_workers=num_workers)
    refused = {record.path for record in report.files if record.status == FileStatus.REJECTED and not record.series}
    lone = [file for file in dicom if file.name in refused]
    nifti += [file for file in lone if is_nifti(file.path)]
    raster += [file for file in lone if raster_format(file.path)]
    others = {file.name for file in (*nifti, *raster)}
    explained = {file.name: record for file in lone if (record := _explained(file))}
    kept = [explained.get(record.path, record) for record in report.files if record.path not in others]
    inventory = Inventory([], kept)
    _add_dicom(inventory, report)
    _add_nifti(inventory, sorted(nifti, key=lambda file: file.name), voxels)
    _add_raster(inventory, sorted(raster, key=lambda file: file.name))
    inventory.files.sort(key=lambda record: record.path)
    if rules is not None:
        _choose(inventory, list(rules), all_matched=all_matched)
    return inventory


def _explained(file: SourceFile) -> FileRecord | None:
    """The record of a file that is no image by its name and content, better than that it is no DICOM file."""
    if document := document_kind(file.path):
        return FileRecord(file.name, FileStatus.SET_ASIDE, document, is_document=True)
    if other := other_format(file.path):
        return FileRecord(file.name, FileStatus.REJECTED, f"{other}; read are DICOM, NIfTI, PNG, JPEG and TIFF")
    return None


def _voxels_of(headers: Sequence[SourceFile], files: Sequence[SourceFile]) -> list[SourceFile]:
    """The files that hold the voxels of these headers."""
    partners = {os.path.realpath(path) for path in (voxel_file(file.path) for file in headers) if path is not None}
    if not partners:
        return []
    known = set(headers)
    return [file for file in files if file not in known and os.path.realpath(file.path) in partners]


def check_pixels(inventory: Inventory) -> None:
    """Decode every image, one after the other, and reject those that cannot be."""
    for entry in list(inventory.entries):
        try:
            entry.read()
        except ImageReadError as error:
            inventory.reject(entry, error)


def _add_dicom(inventory: Inventory, report: ScannedStudies) -> None:
    """Studies in the order of their UIDs; in each the series by SeriesNumber, then by UID."""
    rejected: dict[tuple[str, str], list[FileRecord]] = {}
    for record in report.files:
        if record.status == FileStatus.REJECTED and record.series:
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
            inventory.entries += _entries(series, study, number)
        files, reasons = _refused(rejected.get(uids, []), series)
        if files:
            modality = "" if series is None else series.modality
            row = SeriesRow(
                study=study,
                series=number,
                status=FileStatus.REJECTED,
                format="DICOM",
                files=files,
                modality=modality,
                series_number=_number(series),
                reasons=reasons,
                study_instance_uid=uids[0],
                series_instance_uid=uids[1],
            )
            inventory.refused.append(row)


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


def _entries(series: Series, study: int, number: int) -> list[ImageEntry]:
    stacks: dict[int, int] = {}
    for volume in series.volumes:
        stacks[volume.stack] = stacks.get(volume.stack, 0) + 1
    seen: dict[int, int] = {}
    entries = []
    for volume in series.volumes:
        seen[volume.stack] = phase = seen.get(volume.stack, 0) + 1
        row = dicom_row(volume, study, number, stacks=len(stacks), phase=phase, phases=stacks[volume.stack])
        paths = tuple(dict.fromkeys(plane.path for plane in volume.planes))
        bits = volume.planes[0].encoding.layout.bits_allocated
        entry = ImageEntry(
            row, read_dicom_volumes, volume, volume.files, paths, volume.derived, bits, volume.attributes
        )
        entries.append(entry)
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


def _add_nifti(inventory: Inventory, files: Sequence[SourceFile], voxels: Sequence[SourceFile]) -> None:
    """The volumes of NIfTI files as the last study, and the records of these files and of those with their voxels."""
    study = 1 + max((row.study for row in inventory.rows), default=0)
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
            inventory.files += [FileRecord(name, FileStatus.REJECTED, reason) for name in names]
            continue
        series += 1
        inventory.files += [FileRecord(name, FileStatus.USED) for name in names]
        for volume in volumes:
            row = nifti_row(volume, study, series, names)
            inventory.entries.append(ImageEntry(row, read_nifti_volumes, volume, names, volume.files))


def _add_raster(inventory: Inventory, files: Sequence[SourceFile]) -> None:
    """PNG, JPEG and TIFF files as one more study, each a series of its own, and their records."""
    study = 1 + max((row.study for row in inventory.rows), default=0)
    series = 0
    for file in files:
        try:
            image = read_raster(file.path)
        except ImageReadError as error:
            reason = error.reason + (f" ({error.advice})" if error.advice else "")
            inventory.files.append(FileRecord(file.name, FileStatus.REJECTED, reason))
            continue
        series += 1
        row = raster_row(image, study, series, file.name)
        inventory.files.append(FileRecord(file.name, FileStatus.USED))
        entry = ImageEntry(row, read_raster_image, image, (file.name,), (file.path,), bits=image.bits)
        inventory.entries.append(entry)


def _choose(inventory: Inventory, rules: list[Selection], *, all_matched: bool) -> None:
    """Keep the entries of chosen series; a series is known by the attributes of its first image."""
    firsts: dict[tuple[int, int], ImageEntry] = {}
    for entry in inventory.entries:
        firsts.setdefault((entry.row.study, entry.row.series), entry)
    attributes = [
        {**entry.attributes, "StudyInstanceUID": entry.row.study_instance_uid} if entry.attributes else {}
        for entry in firsts.values()
    ]
    places = list(firsts)
    chosen = {places[one.index] for one in select_series(attributes, rules, all_matched=all_matched)}
    kept = [entry for entry in inventory.entries if (entry.row.study, entry.row.series) in chosen]
    used = {name for entry in kept for name in entry.names}
    inventory.mark(
        {name for entry in inventory.entries for name in entry.names} - used, FileStatus.SET_ASIDE, _NOT_CHOSEN
    )
    inventory.entries = kept
