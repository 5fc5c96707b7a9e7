"""Series whose places and values are known, as classic files and as one enhanced multi-frame file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage

from tests.makers.studies import SERIES, mr_slice, save

Attributes = Callable[[int, int], dict[str, Any]]
NO_ATTRIBUTES: Attributes = lambda phase, z: {}  # noqa: E731


@dataclass(frozen=True)
class Grid:
    """Directions of rows, columns and slices (unit vectors as columns, LPS), mm between voxels (x, y, z), first voxel.

    `drift`: mm along the row direction by which each slice is shifted against the one before (a tilted gantry).
    """

    rotation: npt.NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    spacing: tuple[float, float, float] = (0.75, 1.25, 2.5)
    origin: tuple[float, float, float] = (-10.0, 20.0, -5.0)
    drift: float = 0.0

    def position(self, z: int) -> list[float]:
        """Of the first voxel of a slice, mm (LPS)."""
        shift = z * (self.spacing[2] * self.rotation[:, 2] + self.drift * self.rotation[:, 0])
        return (np.array(self.origin) + shift).tolist()

    @property
    def orientation(self) -> list[float]:
        return self.rotation[:, :2].T.ravel().tolist()

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """Voxel (x, y, z) -> mm, RAS."""
        affine = np.eye(4)
        affine[:3, 0], affine[:3, 1] = self.rotation[:, 0] * self.spacing[0], self.rotation[:, 1] * self.spacing[1]
        affine[:3, 2] = np.array(self.position(1)) - np.array(self.position(0))
        affine[:3, 3] = self.origin
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def random_values(phases: int, shape: tuple[int, int, int] = (5, 6, 4)) -> npt.NDArray[np.uint16]:
    """(phases, x, y, z), every number once as far as 16 bits go."""
    generator = np.random.default_rng([phases, *shape])
    count = phases * int(np.prod(shape))
    return generator.permutation(count).reshape(phases, *shape).astype(np.uint16)


def decimals(values: Sequence[float]) -> list[str]:
    """Decimal strings of at most 16 characters (PS3.5 section 6.2), as many digits as fit."""
    return [f"{value:.16g}" if len(f"{value:.16g}") <= 16 else f"{value:.9g}"[:16] for value in values]


def write_classic(
    folder: Path,
    values: npt.NDArray[np.uint16],
    grid: Grid | None = None,
    attributes: Attributes = NO_ATTRIBUTES,
    *,
    seed: int = 0,
    series: str = SERIES,
) -> dict[tuple[int, int], Path]:
    """One file for each slice of `values` (phases, x, y, z), with names, UIDs and instance numbers without order.

    `attributes` (phase, z) are added to the header. Returns the path of each (phase, z).
    """
    grid = grid or Grid()
    phases, slices = values.shape[0], values.shape[3]
    order = np.random.default_rng(seed).permutation(phases * slices)
    paths = {}
    for number, (phase, z) in zip(order, np.ndindex(phases, slices), strict=True):
        dataset = mr_slice(values[phase, :, :, z].T, 0.0, f"{series}.{number + 1}", SeriesInstanceUID=series)
        dataset.ImagePositionPatient = decimals(grid.position(z))
        dataset.ImageOrientationPatient = decimals(grid.orientation)
        dataset.PixelSpacing = decimals([grid.spacing[1], grid.spacing[0]])
        dataset.SliceThickness = decimals([grid.spacing[2]])[0]
        dataset.InstanceNumber = int(number) + 1
        for keyword, value in attributes(phase, z).items():
            setattr(dataset, keyword, value)
        paths[phase, z] = save(dataset, folder / f"IM{number:05}")
    return paths


def item(**attributes: Any) -> list[Dataset]:  # noqa: ANN401
    """A sequence of one item."""
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return [dataset]


def write_enhanced(
    path: Path,
    values: npt.NDArray[np.uint16],
    grid: Grid | None = None,
    groups: Attributes = NO_ATTRIBUTES,
    *,
    shared: bool = True,
    seed: int = 0,
) -> Path:
    """One file with a frame for each slice of `values` (phases, x, y, z), the frames without order.

    `groups` (phase, z) are functional group sequences of a frame. `shared`: orientation and spacing stand once in the
    shared groups, else in every frame.
    """
    grid = grid or Grid()
    phases, slices = values.shape[0], values.shape[3]
    places = list(np.ndindex(phases, slices))
    order = np.random.default_rng(seed).permutation(len(places))
    frames = [places[index] for index in order]
    dataset = mr_slice(values[0, :, :, 0].T, 0.0, "1.2.3.41")
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(dataset, keyword)
    dataset.SOPClassUID = EnhancedMRImageStorage
    dataset.NumberOfFrames = len(frames)
    common = {
        "PlaneOrientationSequence": item(ImageOrientationPatient=decimals(grid.orientation)),
        "PixelMeasuresSequence": item(
            PixelSpacing=decimals([grid.spacing[1], grid.spacing[0]]), SliceThickness=decimals([grid.spacing[2]])[0]
        ),
    }
    dataset.SharedFunctionalGroupsSequence = item(**common) if shared else item()
    dataset.PerFrameFunctionalGroupsSequence = []
    for phase, z in frames:
        own = {"PlanePositionSequence": item(ImagePositionPatient=decimals(grid.position(z)))}
        own |= {} if shared else common
        dataset.PerFrameFunctionalGroupsSequence += item(**own, **groups(phase, z))
    dataset.PixelData = b"".join(values[phase, :, :, z].T.astype("<u2").tobytes() for phase, z in frames)
    return save(dataset, path)
