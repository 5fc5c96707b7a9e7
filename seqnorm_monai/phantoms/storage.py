"""A generated study as DICOM files, in three of the ways in which scanners store dynamic series."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    PYDICOM_IMPLEMENTATION_UID,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    MRImageStorage,
    generate_uid,
)

from seqnorm_monai.phantoms.breasts import BreastStudy

Pixels = npt.NDArray[np.uint16]
# seconds of the day at which every generated study begins
_START = 36_000.0
_PROTOCOL = {"RepetitionTime": "4.8", "EchoTime": "2.3", "FlipAngle": "10"}


@dataclass(frozen=True)
class Planes:
    """Slices as DICOM has them: pixels (phases, slices, rows, columns), positions (slices, 3) and directions in LPS."""

    pixels: Pixels
    positions: npt.NDArray[np.float64]
    orientation: tuple[float, ...]
    spacing: tuple[float, float]
    distance: float


def axial(study: BreastStudy) -> Planes:
    """Columns towards the left, rows towards the back, slices towards the head."""
    return _planes(study, (0, 1, 2), (1, 0, 0, 0, 1, 0), (-1, -1, 1))


def sagittal(study: BreastStudy) -> Planes:
    """Columns towards the back, rows towards the feet, slices towards the left."""
    return _planes(study, (1, 2, 0), (0, 1, 0, 0, 0, -1), (-1, -1, -1))


def _planes(
    study: BreastStudy, axes: tuple[int, int, int], orientation: tuple[float, ...], signs: tuple[int, int, int]
) -> Planes:
    """`axes` (x, y or z of the study) of column, row and slice, and whether each runs as RAS does or against it."""
    pixels = study.phases.transpose(0, *[1 + axis for axis in axes[::-1]])
    pixels = np.flip(pixels, [3 - place for place in range(3) if signs[place] < 0])
    shape, affine = study.grid.shape, study.grid.affine
    corner = [0.0, 0.0, 0.0]
    for axis, sign in zip(axes, signs, strict=True):
        corner[axis] = 0 if sign > 0 else shape[axis] - 1
    step = np.zeros(3)
    step[axes[2]] = signs[2]
    voxels = np.array(corner) + np.arange(shape[axes[2]])[:, None] * step
    positions = (voxels @ affine[:3, :3].T + affine[:3, 3]) * (-1, -1, 1)
    spacing = study.grid.spacing
    between = (float(spacing[axes[1]]), float(spacing[axes[0]]))
    return Planes(pixels.astype(np.uint16), positions, orientation, between, float(spacing[axes[2]]))


@dataclass(frozen=True)
class Names:
    """What the files of a study say of it; every UID follows from the name."""

    name: str
    laterality: str = ""

    def uid(self, *parts: object) -> str:
        return generate_uid(entropy_srcs=["seqnorm_monai phantom", self.name, *map(str, parts)])


def series_each(study: BreastStudy, planes: Planes, names: Names, folder: Path) -> None:
    """A classic series for each phase, with gaps in the series numbers; the agent stands in those after it."""
    for phase in range(len(planes.pixels)):
        number = 300 + 100 * phase
        more = {"SeriesNumber": number, **_agent(phase), "AcquisitionTime": _clock(study, phase)}
        _classic(planes, names, folder / _folder(number, "ax dyn"), f"phase {phase}", phase, lambda _p, m=more: m)


def pre_apart(study: BreastStudy, planes: Planes, names: Names, folder: Path) -> None:
    """Pre in one classic series; all phases after it in another, told apart by temporal position."""
    pre = {"SeriesNumber": 4, "AcquisitionTime": _clock(study, 0)}
    _classic(planes, names, folder / _folder(4, "t1 fl3d pre"), "pre", 0, lambda _p: pre)

    def later(phase: int) -> dict[str, object]:
        position = {"TemporalPositionIdentifier": phase, "NumberOfTemporalPositions": len(planes.pixels) - 1}
        return {"SeriesNumber": 6, "AcquisitionTime": _clock(study, phase), **_agent(phase), **position}

    for phase in range(1, len(planes.pixels)):
        _classic(planes, names, folder / _folder(6, "t1 fl3d post"), "post", phase, later)


def subtraction(study: BreastStudy, planes: Planes, names: Names, folder: Path) -> None:
    """A subtraction as the scanner's console makes it: derived, so no phase."""
    difference = np.maximum(planes.pixels[1].astype(int) - planes.pixels[0], 0).astype(np.uint16)
    made = Planes(difference[None], planes.positions, planes.orientation, planes.spacing, planes.distance)
    more = {"SeriesNumber": 901, "AcquisitionTime": _clock(study, 1), **_agent(1)}
    more["ImageType"] = ["DERIVED", "SECONDARY", "SUBTRACTION"]
    _classic(made, names, folder / _folder(901, "sub"), "subtraction", 0, lambda _p: more)


def enhanced(study: BreastStudy, planes: Planes, names: Names, folder: Path) -> None:
    """One enhanced multi-frame object for all phases."""
    dataset = _base(names, EnhancedMRImageStorage, names.uid("series"), names.uid("instance"))
    dataset.SeriesNumber, dataset.InstanceNumber, dataset.ContentDate, dataset.ContentTime = 5, 1, "20000101", "100000"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "DYNAMIC", "NONE"]
    dataset.SharedFunctionalGroupsSequence = _item(
        PixelMeasuresSequence=_item(PixelSpacing=list(planes.spacing), SliceThickness=planes.distance),
        PlaneOrientationSequence=_item(ImageOrientationPatient=list(planes.orientation)),
        MRTimingAndRelatedParametersSequence=_item(RepetitionTime=4.8, FlipAngle=10.0, EchoTrainLength=1),
        MREchoSequence=_item(EffectiveEchoTime=2.3),
        PixelValueTransformationSequence=_item(RescaleIntercept=0, RescaleSlope=1, RescaleType="US"),
        **({"FrameAnatomySequence": _item(FrameLaterality=names.laterality)} if names.laterality else {}),
    )
    if names.laterality:
        dataset.ImageLaterality = names.laterality
    groups, order = [], list(_frames(planes))
    for phase, number in order:
        content = {"FrameAcquisitionDateTime": f"20000101{_clock(study, phase)}", "TemporalPositionIndex": phase + 1}
        place = _item(ImagePositionPatient=_decimals(planes.positions[number]))
        groups += _item(FrameContentSequence=_item(**content), PlanePositionSequence=place)
    dataset.PerFrameFunctionalGroupsSequence = groups
    dataset.NumberOfFrames = len(groups)
    _save(dataset, folder / "5.000000-dyn" / "1-1.dcm", [planes.pixels[phase, number] for phase, number in order])


def _frames(planes: Planes) -> Iterator[tuple[int, int]]:
    return ((phase, number) for phase in range(len(planes.pixels)) for number in range(planes.pixels.shape[1]))


def _classic(
    planes: Planes, names: Names, folder: Path, series: str, phase: int, attributes: Callable[[int], dict[str, object]]
) -> None:
    """The slices of one phase, a file each."""
    for number, pixels in enumerate(planes.pixels[phase]):
        dataset = _base(names, MRImageStorage, names.uid("series", series), names.uid(series, phase, number))
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M"]
        dataset.ScanningSequence, dataset.SequenceVariant, dataset.MRAcquisitionType = "GR", "SP", "3D"
        instance = phase * len(planes.positions) + number + 1
        dataset.InstanceNumber = instance
        dataset.ImagePositionPatient = _decimals(planes.positions[number])
        dataset.ImageOrientationPatient = list(planes.orientation)
        dataset.PixelSpacing, dataset.SliceThickness = list(planes.spacing), planes.distance
        if names.laterality:
            dataset.ImageLaterality = names.laterality
        for keyword, value in {**_PROTOCOL, **attributes(phase)}.items():
            setattr(dataset, keyword, value)
        _save(dataset, folder / f"1-{instance:03}.dcm", [pixels])


def _base(names: Names, kind: str, series: str, instance: str) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = kind, instance
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = names.uid("study"), series
    dataset.FrameOfReferenceUID = names.uid("frame")
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate, dataset.PatientSex = "", names.name, "", "F"
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber, dataset.StudyID = "", "", "", ""
    dataset.ReferringPhysicianName = ""
    dataset.Modality, dataset.BodyPartExamined, dataset.Manufacturer = "MR", "BREAST", "seqnorm_monai phantom"
    dataset.SeriesDescription = "generated, no patient"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID, dataset.file_meta.MediaStorageSOPInstanceUID = kind, instance
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    dataset.file_meta.ImplementationVersionName = "SEQNORM_MONAI"
    return dataset


def _save(dataset: Dataset, path: Path, frames: list[Pixels]) -> None:
    """Lossless JPEG-LS: the same voxels, in a third of the bytes."""
    dataset.Rows, dataset.Columns = frames[0].shape
    values = np.minimum(np.stack(frames), 4095)
    dataset.compress(
        JPEGLSLossless,
        values if len(frames) > 1 else values[0],
        generate_instance_uid=False,
        encoding_plugin="pyjpegls",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, dataset, enforce_file_format=True)


def _item(**attributes: object) -> list[Dataset]:
    """A sequence of one item."""
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return [dataset]


def _decimals(values: npt.NDArray[np.float64]) -> list[str]:
    return [f"{value:.8g}" for value in values]


def _agent(phase: int) -> dict[str, object]:
    return {"ContrastBolusAgent": "GENERATED"} if phase else {}


def _clock(study: BreastStudy, phase: int) -> str:
    """The time of the day of a phase, as DICOM writes it."""
    seconds = _START + study.plan.seconds[phase]
    return f"{int(seconds // 3600):02}{int(seconds // 60) % 60:02}{seconds % 60:09.6f}"


def _folder(number: int, text: str) -> str:
    return f"{number}.000000-{text}"
