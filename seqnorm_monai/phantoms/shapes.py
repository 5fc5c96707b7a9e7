"""Places, smooth shapes and smooth noise on a grid in the patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Volume = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """`shape` voxels and `spacing` mm along x, y, z, which grow towards right, front and head (RAS).

    `centre`: mm of the middle of the array.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """(4, 4): voxels to mm in RAS."""
        matrix = np.diag([*self.spacing, 1.0])
        matrix[:3, 3] = np.array(self.centre) - np.array(self.spacing) * (np.array(self.shape) - 1) / 2
        return matrix

    def axes(self) -> list[Volume]:
        """mm along x, y and z, each of a shape that broadcasts to the grid's."""
        lines = [
            self.affine[axis, 3] + self.spacing[axis] * np.arange(self.shape[axis], dtype=np.float32)
            for axis in range(3)
        ]
        return [line.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)]) for axis, line in
                enumerate(lines)]  # fmt: skip


def ellipsoid(grid: Grid, centre: Sequence[float], radii: Sequence[float]) -> Volume:
    """The distance from the centre in parts of the radius: below 1 inside."""
    parts = [((axis - c) / r) ** 2 for axis, c, r in zip(grid.axes(), centre, radii, strict=True)]
    return np.sqrt(parts[0] + parts[1] + parts[2])


def inside(distance: Volume, softness: float) -> Volume:
    """1 inside and 0 outside of a distance of 1, with a border as wide as a voxel: partial volume."""
    return np.clip((1.0 - distance) / softness + 0.5, 0.0, 1.0)


def smooth_noise(random: np.random.Generator, grid: Grid, scale: float) -> Volume:
    """Noise of mean 0 and deviation 1 whose bumps are about `scale` mm wide."""
    # drawn on a coarse grid of its own, so that a finer image shows the same kind of bumps
    shape = [max(2, round(n * s / scale) + 2) for n, s in zip(grid.shape, grid.spacing, strict=True)]
    coarse = random.standard_normal(shape)
    places = np.meshgrid(*[np.linspace(0, n - 1, m) for n, m in zip(shape, grid.shape, strict=True)], indexing="ij")
    found = ndimage.map_coordinates(coarse, places, order=2, mode="nearest")
    return ((found - found.mean()) / found.std()).astype(np.float32)


def tube(grid: Grid, points: npt.NDArray[np.float64], radius: float) -> Volume:
    """The share of each voxel that a tube along a line through `points` (n, 3) fills; mm."""
    found = np.zeros(grid.shape, dtype=np.float32)
    corner, spacing = grid.affine[:3, 3], np.array(grid.spacing)
    share = min(1.0, float(np.pi * radius**2 / np.sort(spacing)[:2].prod()))
    for one, two in pairwise(points):
        steps = max(2, int(np.ceil(np.linalg.norm(two - one) / (0.5 * spacing.min()))))
        for place in np.linspace(one, two, steps):
            reach = np.maximum(radius, 0.5 * spacing)
            low = np.maximum(0, np.round((place - reach - corner) / spacing)).astype(int)
            high = np.round((place + reach - corner) / spacing).astype(int) + 1
            if (high > 0).all():
                found[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = share
    return found


def moved(volume: Volume, grid: Grid, millimetres: Sequence[float]) -> Volume:
    """The same volume after the patient moved by so many mm."""
    voxels = [mm / spacing for mm, spacing in zip(millimetres, grid.spacing, strict=True)]
    return ndimage.shift(volume, voxels, order=1, mode="nearest").astype(np.float32)
