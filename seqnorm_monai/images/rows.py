"""One row of an inventory: a phase of a series, or what of a series is refused, in numbers that a person reads."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from seqnorm_monai.images.dicom.volume import Volume
from seqnorm_monai.images.image_array import LPS_TO_RAS
from seqnorm_monai.images.itk_volume import ItkVolume
from seqnorm_monai.images.nifti import NiftiVolume
from seqnorm_monai.images.raster import RasterImage
from seqnorm_monai.images.records import FileStatus

Matrix = npt.NDArray[np.float64]

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
class SeriesRow:
    """One phase of one series, or the refused files of one series.

    Studies are numbered through the folder, series through their study, stacks (slices of one size, spacing and
    orientation) through their series and phases through their stack, from 1. Files of other formats than DICOM are
    the series of one more study each (NIfTI; MetaImage and NRRD; PNG, JPEG and TIFF), under their file's `name`.
    `status` is USED or REJECTED: without a readable image, `reasons` say why, and `stack` and `phase` are 0.

    `shape` and `spacing` (mm) along the spatial axes x, y[, z], of `channels`; `kind` as a `Volume` has it. `affine`:
    voxels to mm in RAS, None for an image without a place in the patient. `nifti` is the file that it was written to.
    """

    study: int
    series: int
    status: FileStatus
    format: str
    files: int
    stack: int = 0
    stacks: int = 0
    phase: int = 0
    phases: int = 0
    modality: str = ""
    series_number: int | None = None
    label: str = ""
    kind: str = ""
    shape: tuple[int, ...] = ()
    channels: int = 0
    spacing: tuple[float, ...] = ()
    affine: tuple[tuple[float, ...], ...] | None = None
    warnings: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    name: str = ""
    nifti: str = ""

    @property
    def key(self) -> tuple[int, int, int, int]:
        """What no other row of a readable image has."""
        return self.study, self.series, self.stack, self.phase

    @property
    def problems(self) -> tuple[str, ...]:
        """Warnings, and reasons why files are refused."""
        return self.warnings + self.reasons

    @property
    def orientation(self) -> str:
        """The directions in which x, y and z grow, "" without a place in the patient."""
        return "" if self.affine is None else axis_letters(np.array(self.affine))

    @property
    def plane(self) -> str:
        """The plane of the slices, "" without a place in the patient."""
        return "" if self.affine is None else plane_of(np.array(self.affine))

    def as_json(self) -> dict[str, object]:
        """The row with its orientation and plane in place of the affine."""
        fields = asdict(self)
        del fields["affine"]
        return {**fields, "orientation": self.orientation, "plane": self.plane}


def dicom_row(volume: Volume, study: int, series: int, *, stacks: int, phase: int, phases: int) -> SeriesRow:
    """The row of a volume that is the `phase`-th of `phases` in its stack."""
    affine = None if volume.affine is None else LPS_TO_RAS @ np.array(volume.affine)
    # one slice has no third axis, the third of frames without a place is no length
    axes = 2 if volume.kind == "image" else 3
    return SeriesRow(
        study=study,
        series=series,
        status=FileStatus.USED,
        format="DICOM",
        files=len(volume.files),
        stack=volume.stack + 1,
        stacks=stacks,
        phase=phase,
        phases=phases,
        modality=volume.modality,
        series_number=series_number(volume.attributes.get("SeriesNumber")),
        label=", ".join(part for part in (volume.phase_label, volume.derived) if part),
        kind=volume.kind,
        shape=(volume.shape[2], volume.shape[1], volume.shape[0])[:axes],
        channels=volume.shape[3] if len(volume.shape) > 3 else 1,
        spacing=tuple(float(value) for value in volume.spacing or ())[: 2 if affine is None else axes],
        affine=None if affine is None else _rows_of(affine),
        warnings=_warnings(volume),
        study_instance_uid=volume.study_instance_uid,
        series_instance_uid=volume.series_instance_uid,
    )


def nifti_row(volume: NiftiVolume, study: int, series: int, names: tuple[str, ...]) -> SeriesRow:
    """The row of a NIfTI volume; `names` are those of its files."""
    axes = 2 if volume.kind == "image" else 3
    return SeriesRow(
        study=study,
        series=series,
        status=FileStatus.USED,
        format="NIfTI",
        files=len(names),
        stack=1,
        stacks=1,
        phase=volume.phase_index + 1,
        phases=volume.num_phases,
        label=volume.phase_label,
        kind=volume.kind,
        shape=volume.shape[:axes],
        channels=volume.channels,
        spacing=volume.spacing[:axes],
        affine=_rows_of(volume.affine) if volume.orientation_source != "pixdim" else None,
        warnings=volume.warnings,
        name=names[0],
    )


def itk_row(volume: ItkVolume, study: int, series: int, names: tuple[str, ...]) -> SeriesRow:
    """The row of a MetaImage or NRRD volume; `names` are those of its files."""
    axes = 2 if volume.kind == "image" else 3
    return SeriesRow(
        study=study,
        series=series,
        status=FileStatus.USED,
        format=volume.format,
        files=len(names),
        stack=1,
        stacks=1,
        phase=1,
        phases=1,
        kind=volume.kind,
        shape=volume.shape[:axes],
        channels=volume.channels,
        spacing=volume.spacing[:axes],
        affine=volume.affine if volume.has_geometry else None,
        name=names[0],
    )


def raster_row(image: RasterImage, study: int, series: int, name: str) -> SeriesRow:
    """The row of a PNG, JPEG or TIFF file."""
    return SeriesRow(
        study=study,
        series=series,
        status=FileStatus.USED,
        format=image.format,
        files=1,
        stack=1,
        stacks=1,
        phase=1,
        phases=1,
        kind="image",
        shape=image.shape,
        channels=image.channels,
        warnings=(*image.warnings, _NO_SPACING),
        name=name,
    )


def axis_letters(affine: Matrix) -> str:
    """The direction in which each axis grows: R or L, A or P, S or I, for an affine to RAS."""
    # imported here: it takes a third of a second
    from nibabel.orientations import aff2axcodes

    return "".join(letter or "?" for letter in aff2axcodes(affine))


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


def _rows_of(affine: Matrix) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, affine.tolist()))


def _warnings(volume: Volume) -> tuple[str, ...]:
    warnings = [_SHEARED] if volume.sheared else []
    warnings += [volume.warning] if volume.warning else []
    if volume.affine is None and volume.modality in _SECTIONS:
        warnings.append(_NO_PLACE)
    if volume.spacing is None:
        warnings.append(_NO_SPACING)
    return tuple(warnings)
