"""Whether two volumes lie on one grid: the same voxels in the same places."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

# How far the corners of two grids may lie apart, in parts of the smallest distance between voxels: positions are
# written in decimals, and scanners move the table by less between phases.
_CORNERS = 0.1


@dataclass(frozen=True)
class Grid:
    """`shape` (x, y, z); `affine` voxels to mm in RAS, None without a place; `frame_of_reference` "" where unknown."""

    shape: tuple[int, ...]
    affine: tuple[tuple[float, ...], ...] | None
    frame_of_reference: str = ""

    def can_be_resampled(self, other: Grid) -> bool:
        """Whether places of one are places of the other: both lie in the patient, in one frame of reference."""
        same = self.frame_of_reference == other.frame_of_reference
        return self.affine is not None and other.affine is not None and same

    def difference(self, other: Grid) -> str:
        """What is different, "" for one grid."""
        if self.shape != other.shape:
            return f"{_size(self.shape)} voxels instead of {_size(other.shape)}"
        if (self.affine is None) != (other.affine is None):
            return "a place in the patient in one of two only"
        if self.frame_of_reference and other.frame_of_reference and self.frame_of_reference != other.frame_of_reference:
            return "another frame of reference"
        if self.affine is None:
            return ""
        one, two = np.array(self.affine), np.array(other.affine)
        apart = _corners(self.shape) @ (one - two).T
        distance = float(np.linalg.norm(apart[:, :3], axis=1).max())
        spacing = float(np.linalg.norm(two[:3, :3], axis=0).min())
        return f"corners {distance:.3g} mm apart" if distance > _CORNERS * spacing else ""


def _corners(shape: tuple[int, ...]) -> np.ndarray:
    ends = [(0, size - 1) for size in shape]
    return np.array([(*corner, 1.0) for corner in itertools.product(*ends)])


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
