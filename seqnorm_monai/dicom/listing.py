"""What is in a folder: a row for every phase of every series, and one for every file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
from monai.data import MetaTensor

from seqnorm_monai.dicom.records import FileRecord
from seqnorm_monai.dicom.selection import Selection, select_series
from seqnorm_monai.dicom.sources import SourceFile, Sources
from seqnorm_monai.dicom.study import StudyReport, read_studies
from seqnorm_monai.dicom.volume import load_volume
from seqnorm_monai.nifti import NiftiVolume, is_nifti, load_nifti, read_nifti, voxel_file
from seqnorm_monai.read_errors import ImageReadError

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SHEARED = "tilted gantry: slices are shifted against each other"
_NOT_CHOSEN = "not chosen by the rules"


@dataclass(frozen=True)
class Row:
    """One phase of one series.

    Studies are numbered through the folder, series through their study, phases through their series, from 1; NIfTI
    files are the series of one last study, under their file's `name`. `shape` and `spacing` (mm) along the axes (x, y,
    z) of the tensor, `orientation` the directions in which they grow, "" for an image without a place in the patient.
    """

    study: int
    series: int
    phase: int
    phases: int
    format: str
    modality: str
    label: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    orientation: str
    files: int
    problems: tuple[str, ...]
    study_instance_uid: str
    series_instance_uid: str
    name: str

    def as_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class Entry:
    """A row, how to read its pixels, and the names and places of the files that they come from.

    `derived`: the kind of a computed map, "" for an image as it was acquired. `stack`: equal for volumes
    of one series whose voxels lie at the same places, its phases. `attributes`: what selection rules ask for, {} for NIfTI.
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
    """The entries of a folder and the account of its files, one record each."""

    entries: list[Entry]
    files: list[FileRecord]

    def reject(self, entry: Entry, error: ImageReadError) -> None:
        """Account for an entry whose pixels turned out to be unreadable: its row says so, its files are rejected."""
        changed = replace(entry, row=replace(entry.row, problems=(*entry.row.problems, error.reason)))
        self.entries[self.entries.index(entry)] = changed
        self.mark(set(entry.names), "rejected", error.reason)

    def mark(self, names: set[str], status: str, reason: str) -> None:
        """Change the records of the files with these names."""
        self.files = [replace(one, status=status, reason=reason) if one.path in names else one for one in self.files]


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
    listing = Listing(_dicom_entries(report), list(report.files))
    _add_nifti(listing, nifti, voxels)
    if rules is not None:
        _choose(listing, list(rules), all_matched=all_matched)
    return listing


def _dicom_entries(report: StudyReport) -> list[Entry]:
    entries = []
    studies: dict[str, int] = {}
    numbers: dict[int, int] = {}
    for series in report.series:
        study = studies.setdefault(series.study_instance_uid, len(studies) + 1)
        numbers[study] = numbers.get(study, 0) + 1
        for phase, volume in enumerate(series.volumes, 1):
            row = Row(
                study=study,
                series=numbers[study],
                phase=phase,
                phases=len(series.volumes),
                format="DICOM",
                modality=volume.modality,
                label=" ".join(part for part in (volume.phase_label, volume.derived) if part),
                shape=(volume.shape[2], volume.shape[1], volume.shape[0]),
                spacing=tuple(float(value) for value in volume.spacing or ()),
                orientation="" if volume.affine is None else _letters(_LPS_TO_RAS @ np.array(volume.affine)),
                files=len(volume.files),
                problems=(_SHEARED,) if volume.sheared else (),
                study_instance_uid=volume.study_instance_uid,
                series_instance_uid=volume.series_instance_uid,
                name="",
            )
            paths = tuple(dict.fromkeys(plane.path for plane in volume.planes))
            load = partial(load_volume, volume)
            entries.append(Entry(row, load, volume.files, paths, volume.stack, volume.derived, volume.attributes))
    return entries


def _add_nifti(listing: Listing, files: Sequence[SourceFile], voxels: Sequence[SourceFile]) -> None:
    """The volumes of NIfTI files as the last study, and the rows of these files and of those with their voxels."""
    study = 1 + max((entry.row.study for entry in listing.entries), default=0)
    series = 0
    for file in files:
        partner = voxel_file(file.path)
        own = [one.name for one in voxels if partner is not None and os.path.samefile(one.path, partner)]
        names = (file.name, *own)
        try:
            volumes = read_nifti(file.path)
        except ImageReadError as error:
            listing.files += [FileRecord(name, "rejected", error.reason) for name in names]
            continue
        series += 1
        listing.files += [FileRecord(name, "used") for name in names]
        for volume in volumes:
            row = _nifti_row(volume, study, series, names)
            listing.entries.append(Entry(row, partial(load_nifti, volume), names, volume.files, stack=0))


def _nifti_row(volume: NiftiVolume, study: int, series: int, names: tuple[str, ...]) -> Row:
    return Row(
        study=study,
        series=series,
        phase=volume.phase_index + 1,
        phases=volume.num_phases,
        format="NIfTI",
        modality="",
        label=volume.phase_label,
        shape=volume.shape,
        spacing=volume.spacing,
        orientation="" if volume.orientation_source == "pixdim" else _letters(volume.affine),
        files=len(names),
        problems=volume.notes,
        study_instance_uid="",
        series_instance_uid="",
        name=names[0],
    )


def _choose(listing: Listing, rules: list[Selection], *, all_matched: bool) -> None:
    """Keep the entries of chosen series; a series is known by the attributes of its first phase."""
    firsts = [entry for entry in listing.entries if entry.row.phase == 1]
    attributes = [
        {**entry.attributes, "StudyInstanceUID": entry.row.study_instance_uid} if entry.attributes else {}
        for entry in firsts
    ]
    selected = select_series(attributes, rules, all_matched=all_matched)
    chosen = {(firsts[one.index].row.study, firsts[one.index].row.series) for one in selected}
    kept = [entry for entry in listing.entries if (entry.row.study, entry.row.series) in chosen]
    used = {name for entry in kept for name in entry.names}
    listing.mark({name for entry in listing.entries for name in entry.names} - used, "set_aside", _NOT_CHOSEN)
    listing.entries = kept


def _letters(affine: npt.NDArray[np.float64]) -> str:
    """The direction in which each axis grows: R or L, A or P, S or I, for an affine to RAS."""
    return "".join(letter or "?" for letter in nibabel.aff2axcodes(affine))

