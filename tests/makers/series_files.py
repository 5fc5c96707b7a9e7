"""Series of slices written as DICOM files, every voxel with a value of its own, and where each voxel lies."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import CTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pydicom.valuerep import DSfloat

from seqnorm_monai.images.dicom.series import ScannedStudies, read_studies
from seqnorm_monai.images.dicom.volume import Volume
from tests.makers.reading import load_volume

SLOPE, STUDY = 2.0, "1.2.3.1"
Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class Grid:
    """Slices at ``origin + k * step``; `row` and `column` are the directions along a row and along a column."""

    slices: int = 5
    rows: int = 7
    columns: int = 3
    origin: tuple[float, ...] = (-31.0, 17.0, 43.0)
    row: tuple[float, ...] = (1.0, 0.0, 0.0)
    column: tuple[float, ...] = (0.0, 1.0, 0.0)
    step: tuple[float, ...] = (0.0, 0.0, 2.5)
    spacing: tuple[float, float] = (0.7, 1.3)

    def position(self, number: int) -> np.ndarray:
        """Of the first pixel of a slice, LPS in mm."""
        return np.array(self.origin) + number * np.array(self.step)

    def places(self) -> np.ndarray:
        """(slices, rows, columns, 3): where the centre of every voxel lies, LPS in mm."""
        k, j, i = np.meshgrid(*map(np.arange, (self.slices, self.rows, self.columns)), indexing="ij")
        return (
            np.array(self.origin)
            + k[..., None] * np.array(self.step)
            + j[..., None] * self.spacing[0] * np.array(self.column)
            + i[..., None] * self.spacing[1] * np.array(self.row)
        )


def rotated(grid: Grid, axes: np.ndarray, distance: float, *, lean: Sequence[float] = (0.0, 0.0)) -> Grid:
    """`grid` along the orthonormal rows of `axes`; `lean` moves each slice in its plane, as a tilted gantry does."""
    step = distance * axes[2] + lean[0] * axes[0] + lean[1] * axes[1]
    return replace(grid, row=tuple(axes[0]), column=tuple(axes[1]), step=tuple(step))


def stored(grid: Grid, phase: int = 0) -> np.ndarray:
    """(slices, rows, columns) of numbers that occur in no other voxel and no other phase."""
    count = grid.slices * grid.rows * grid.columns
    return (np.arange(count) + 1 + phase * count).reshape(grid.slices, grid.rows, grid.columns)


def intercept(phase: int, number: int) -> float:
    """Of each slice another, so that a rescale of another slice shows."""
    return 10_000.0 * (phase * 8 + number + 1)


def expected(grid: Grid, phase: int = 0) -> np.ndarray:
    """(slices, rows, columns): the rescaled values."""
    shift = np.array([intercept(phase, number) for number in range(grid.slices)])
    return SLOPE * stored(grid, phase) + shift[:, None, None]


def decimals(values: Iterable[float]) -> list[DSfloat]:
    return [DSfloat(float(value), auto_format=True) for value in values]


def base(sop: str, series: str, kind: str = MRImageStorage) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = kind, sop
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = STUDY, series, "1.2.3.5"
    dataset.PatientName, dataset.PatientID = "Secret^Name", "SECRETID"
    dataset.Modality = "CT" if kind == CTImageStorage else "MR"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def save(dataset: Dataset, path: Path, values: np.ndarray) -> Path:
    dataset.Rows, dataset.Columns = values.shape[-2:]
    data = values.astype("<u2").tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW"
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def write_classic(
    folder: Path,
    grid: Grid,
    phases: Sequence[Attributes] = ({},),
    *,
    series: str = "1.2.3.2",
    each: Callable[[int, int], Attributes] = lambda phase, number: {},
    skip: Iterable[tuple[int, int]] = (),
    kind: str = MRImageStorage,
    stem: str = "s",
) -> list[Path]:
    """One file for each slice of each phase: `phases` holds attributes of a phase, `each` those of (phase, slice)."""
    paths = []
    for phase, attributes in enumerate(phases):
        values = stored(grid, phase)
        for number in range(grid.slices):
            if (phase, number) in set(skip):
                continue
            dataset = base(f"{series}.{phase + 1}.{number + 1}", series, kind)
            dataset.ImagePositionPatient = decimals(grid.position(number))
            dataset.ImageOrientationPatient = decimals((*grid.row, *grid.column))
            dataset.PixelSpacing = decimals(grid.spacing)
            dataset.RescaleSlope, dataset.RescaleIntercept = decimals((SLOPE, intercept(phase, number)))
            for keyword, value in {**attributes, **each(phase, number)}.items():
                setattr(dataset, keyword, value)
            paths.append(save(dataset, folder / f"{stem}{phase}_{number}.dcm", values[number]))
    return paths


def item(**attributes: Any) -> list[Dataset]:  # noqa: ANN401
    """A sequence of one item."""
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return [dataset]


def write_enhanced(
    path: Path,
    grid: Grid,
    phases: Sequence[Attributes] = ({},),
    *,
    series: str = "1.2.3.3",
    shared: bool = True,
    order: Sequence[tuple[int, int]] | None = None,
    content: Callable[[int, int], Attributes] = lambda phase, number: {},
    dimensions: Sequence[int] = (),
) -> Path:
    """One multi-frame file; `phases` holds macros (sequences) of a phase, `content` elements of Frame Content.

    `shared` puts what all frames have in common into the shared group. `order`: (phase, slice) of each frame.
    """
    every = [(phase, number) for phase in range(len(phases)) for number in range(grid.slices)]
    frames = every if order is None else order
    dataset = base(f"{series}.1", series, EnhancedMRImageStorage)
    dataset.NumberOfFrames = len(frames)
    common = {
        "PixelMeasuresSequence": item(PixelSpacing=decimals(grid.spacing), SliceThickness=1.0),
        "PlaneOrientationSequence": item(ImageOrientationPatient=decimals((*grid.row, *grid.column))),
    }
    groups = []
    for phase, number in frames:
        macros = {
            **({} if shared else common),
            **phases[phase],
            "PlanePositionSequence": item(ImagePositionPatient=decimals(grid.position(number))),
            "PixelValueTransformationSequence": item(
                RescaleSlope=SLOPE, RescaleIntercept=intercept(phase, number), RescaleType="US"
            ),
        }
        if found := content(phase, number):
            macros["FrameContentSequence"] = item(**found)
        groups += item(**macros)
    dataset.SharedFunctionalGroupsSequence = item(**(common if shared else {}))
    dataset.PerFrameFunctionalGroupsSequence = groups
    if dimensions:
        dataset.DimensionIndexSequence = [item(DimensionIndexPointer=tag)[0] for tag in dimensions]
    return save(dataset, path, np.stack([stored(grid, phase)[number] for phase, number in frames]))


def study(paths: Iterable[Path], root: Path | None = None) -> ScannedStudies:
    """Read files in the order given; every one has one record, in that order."""
    sources = [SimpleNamespace(name=str(path.relative_to(root) if root else path.name), path=path) for path in paths]
    assert len({source.name for source in sources}) == len(sources), "names of test files must differ"
    report = read_studies(sources)
    assert [record.path for record in report.files] == [source.name for source in sources]
    assert {record.status for record in report.files} <= {"used", "set_aside", "rejected"}
    return report


def volumes(report: ScannedStudies) -> list[Volume]:
    return [volume for series in report.series for volume in series.volumes]


def only_reason(report: ScannedStudies) -> str:
    """Why everything is refused; it quotes nothing of the patient."""
    assert not volumes(report)
    assert {record.status for record in report.files} == {"rejected"}
    (reason,) = {record.reason for record in report.files}
    assert "Secret" not in reason and "SECRETID" not in reason
    return reason


def check_placed(volume: Volume, grid: Grid, phase: int = 0) -> torch.Tensor:
    """Every voxel of the tensor has the value of one voxel of `grid`, and its affine puts it where that one lies.

    Compared in RAS, to a millionth of the distances. All voxels of the phase must be there, each once.
    """
    tensor = load_volume(volume)
    values = tensor[0].numpy() if grid.slices > 1 else tensor[0].numpy()[..., None]
    truth = expected(grid, phase).ravel()
    assert values.shape == (grid.columns, grid.rows, grid.slices)
    order = np.argsort(truth)
    found = order[np.searchsorted(truth[order], values.ravel()).clip(max=len(truth) - 1)]
    np.testing.assert_array_equal(truth[found], values.ravel())
    assert len(set(found.tolist())) == len(truth)
    places = (grid.places() * (-1, -1, 1)).reshape(-1, 3)[found]
    index = np.stack(np.meshgrid(*map(np.arange, values.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    affine = tensor.affine.numpy()
    mapped = index @ affine[:3, :3].T + affine[:3, 3]
    np.testing.assert_allclose(mapped, places, atol=1e-6 * max(1.0, np.abs(places).max()))
    if grid.slices > 1:
        normal = np.cross(grid.row, grid.column) * (-1, -1, 1)
        assert affine[:3, 2] @ normal > 0, "the slices do not rise along the normal"
    return tensor


def itk_series(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (columns, rows, slices) and affine (RAS) as ITK reads the only series of a folder."""
    # SWIG types warn when they are made, and an exception at that point ends the process
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import itk

        names = itk.GDCMSeriesFileNames.New()
        names.SetDirectory(str(folder))
        image = itk.imread(list(names.GetInputFileNames()), itk.F)
        pixels = itk.array_from_image(image).transpose(2, 1, 0)
        affine = np.eye(4)
        affine[:3, :3] = itk.array_from_matrix(image.GetDirection()) @ np.diag(image.GetSpacing())
        affine[:3, 3] = image.GetOrigin()
    return pixels, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
