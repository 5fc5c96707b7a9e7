"""One row of a listing: a phase of a series, or what of a series is refused, in numbers that a person reads."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import nibabel
import numpy as np
import numpy.typing as npt

from seqnorm_monai.images.dicom.volume import Volume
from seqnorm_monai.images.nifti import NiftiVolume

Matrix = npt.NDArray[np.float64]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# the plane of an image whose normal is nearest to this axis of the patient (x, y, z)
_PLANES = ("sagittal", "coronal", "axial")
# Angles below this (degrees) are what rounded direction cosines leave.
_STRAIGHT = 0.5
_SHEARED = "tilted gantry: slices are shifted against each other"
_NO_PLACE = "no position in the patient"
_NO_SPACING = "no spacing"
# kinds of images that have a place and a size in the patient wherever the header is whole
_SECTIONS = ("CT", "MR", "PT")


@dataclass(frozen=True)
class Row:
    """One phase of one series, or the refused files of one series.

    Studies are numbered through the folder, series through their study, stacks (slices of one size, spacing and
    orientation) through their series and phases through their stack, from 1; NIfTI files are the series of one last
    study, under their file's `name`. `status` is "used" or "rejected": without a readable image, `problems` say why,
    and `stack` and `phase` are 0.

    `shape` and `spacing` (mm) along the spatial axes x, y[, z] of the tensor, of `channels`; `kind` as a `Volume` has
    it. `orientation`: the directions in which x, y and z grow, `plane` that of the slices, both "" for an image without
    a place in the patient. `nifti` is the file that it was written to.
    """

    study: int
    series: int
    stack: int
    stacks: int
    phase: int
    phases: int
    status: str
    format: str
    modality: str
    series_number: int | None
    label: str
    kind: str
    shape: tuple[int, ...]
    channels: int
    spacing: tuple[float, ...]
    orientation: str
    plane: str
    files: int
    problems: tuple[str, ...]
    study_instance_uid: str
    series_instance_uid: str
    name: str
    nifti: str = ""

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def dicom_row(volume: Volume, study: int, series: int, *, stacks: int, phase: int, phases: int) -> Row:
    """The row of a volume that is the `phase`-th of `phases` in its stack."""
    affine = None if volume.affine is None else _LPS_TO_RAS @ np.array(volume.affine)
    # one slice has no third axis, the third of frames without a place is no length
    axes = 2 if volume.kind == "image" else 3
    return Row(
        study=study,
        series=series,
        stack=volume.stack + 1,
        stacks=stacks,
        phase=phase,
        phases=phases,
        status="used",
        format="DICOM",
        modality=volume.modality,
        series_number=series_number(volume.attributes.get("SeriesNumber")),
        label=", ".join(part for part in (volume.phase_label, volume.derived) if part),
        kind=volume.kind,
        shape=(volume.shape[2], volume.shape[1], volume.shape[0])[:axes],
        channels=volume.shape[3] if len(volume.shape) > 3 else 1,
        spacing=tuple(float(value) for value in volume.spacing or ())[: 2 if affine is None else axes],
        orientation="" if affine is None else letters(affine),
        plane="" if affine is None else plane_of(affine),
        files=len(volume.files),
        problems=_problems(volume),
        study_instance_uid=volume.study_instance_uid,
        series_instance_uid=volume.series_instance_uid,
        name="",
    )


def nifti_row(volume: NiftiVolume, study: int, series: int, names: tuple[str, ...]) -> Row:
    """The row of a NIfTI volume; `names` are those of its files."""
    stated = volume.orientation_source != "pixdim"
    axes = 2 if volume.kind == "image" else 3
    return Row(
        study=study,
        series=series,
        stack=1,
        stacks=1,
        phase=volume.phase_index + 1,
        phases=volume.num_phases,
        status="used",
        format="NIfTI",
        modality="",
        series_number=None,
        label=volume.phase_label,
        kind=volume.kind,
        shape=volume.shape[:axes],
        channels=volume.channels,
        spacing=volume.spacing[:axes],
        orientation=letters(volume.affine) if stated else "",
        plane=plane_of(volume.affine) if stated else "",
        files=len(names),
        problems=volume.notes,
        study_instance_uid="",
        series_instance_uid="",
        name=names[0],
    )


def refused_row(
    study: int,
    series: int,
    uids: tuple[str, str],
    files: int,
    problems: tuple[str, ...],
    *,
    modality: str,
    series_number: int | None,
) -> Row:
    """The row of files of one series (`uids` of study and series) of which no image can be made."""
    return Row(
        study=study,
        series=series,
        stack=0,
        stacks=0,
        phase=0,
        phases=0,
        status="rejected",
        format="DICOM",
        modality=modality,
        series_number=series_number,
        label="",
        kind="",
        shape=(),
        channels=0,
        spacing=(),
        orientation="",
        plane="",
        files=files,
        problems=problems,
        study_instance_uid=uids[0],
        series_instance_uid=uids[1],
        name="",
    )


def letters(affine: Matrix) -> str:
    """The direction in which each axis grows: R or L, A or P, S or I, for an affine to RAS."""
    return "".join(letter or "?" for letter in nibabel.aff2axcodes(affine))


def plane_of(affine: Matrix) -> str:
    """The plane of the slices by their normal (first x second axis), and its angle to that plane if it is oblique."""
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    length = float(np.linalg.norm(normal))
    if not length:
        return ""
    cosines = np.abs(normal) / length
    angle = math.degrees(math.acos(min(float(cosines.max()), 1.0)))
    return _PLANES[int(cosines.argmax())] + (f", {angle:.0f} degrees oblique" if angle >= _STRAIGHT else "")


def series_number(value: object) -> int | None:
    """SeriesNumber as an integer, None where it is none."""
    return int(value) if isinstance(value, int | float) and float(value).is_integer() else None


def _problems(volume: Volume) -> tuple[str, ...]:
    problems = [_SHEARED] if volume.sheared else []
    problems += [volume.problem] if volume.problem else []
    if volume.affine is None and volume.modality in _SECTIONS:
        problems.append(_NO_PLACE)
    if volume.spacing is None:
        problems.append(_NO_SPACING)
    return tuple(problems)
