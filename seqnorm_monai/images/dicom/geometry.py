"""Where the slices of a stack lie in the patient: order, spacing and affine (PS3.3 section C.7.6.2.1.1).

All in mm of the patient system, x to the left, y to the back, z to the head (LPS).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

# Two slices nearer than this (mm) lie at one position.
SAME_POSITION = 0.01
# Distances may differ from their mean by this part of it, or by as much as coordinates of two decimals round.
UNIFORM_RELATIVE, UNIFORM_MM = 0.02, 0.02
# No patient is as large as this (mm); sums and products of what is larger may overflow.
LARGEST = 1e6
# Direction cosines are written with a few digits: length and right angle hold to this.
ORTHONORMAL = 1e-3
# Cosines that differ by less are one orientation; the tilt below which two orientations are a mistake, in degrees.
SAME_ORIENTATION = 1e-3
SMALL_TILT = 5.0
# In-plane drift per slice distance above which a stack is called sheared.
STRAIGHT = 1e-3


class GeometryError(ValueError):
    """A stack that is no volume; the text says why, with positions in mm along the slice normal."""


@dataclass(frozen=True)
class StackGeometry:
    """`order`: indices of the slices along the normal. `affine` maps (column, row, slice) to mm (LPS)."""

    order: tuple[int, ...]
    spacing: tuple[float, float, float]
    affine: tuple[tuple[float, ...], ...]
    sheared: bool


def slice_normal(orientation: Sequence[float]) -> Vector:
    """row x column direction, of length 1. Raises GeometryError unless the two are orthonormal."""
    row, column = np.array(orientation[:3], dtype=np.float64), np.array(orientation[3:], dtype=np.float64)
    if np.abs(orientation).max() > 2:
        raise GeometryError("ImageOrientationPatient is not two orthogonal directions of length 1")
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if max(abs(length - 1) for length in lengths) > ORTHONORMAL or abs(row @ column) > ORTHONORMAL:
        raise GeometryError("ImageOrientationPatient is not two orthogonal directions of length 1")
    normal = np.cross(row, column)
    return normal / np.linalg.norm(normal)


def positions_along_normal(positions: Sequence[Sequence[float]], orientation: Sequence[float]) -> Vector:
    """Positions along the slice normal, in mm. Raises GeometryError for one that is nowhere in a patient."""
    points = np.array(positions, dtype=np.float64)
    if np.abs(points).max() > LARGEST:
        raise GeometryError("ImagePositionPatient is more than a kilometre away")
    return points @ slice_normal(orientation)


def position_labels(values: Vector, nearest: float = SAME_POSITION) -> npt.NDArray[np.int64]:
    """A number for each position, the same for slices nearer than `nearest`, rising along the normal."""
    order = np.argsort(values, kind="stable")
    steps = np.diff(values[order]) > nearest
    labels = np.zeros(len(values), dtype=np.int64)
    labels[order[1:]] = np.cumsum(steps)
    return labels


def stack_geometry(
    positions: Sequence[Sequence[float]],
    orientation: Sequence[float],
    pixel_spacing: tuple[float, float],
    thickness: float | None,
) -> StackGeometry:
    """Sort slices, check that their spacing is uniform, and give the affine.

    With unit directions r (along a row) and c (along a column), pixel spacing (s_row, s_col) and n slices sorted by
    height, the affine has the columns ``s_col * r``, ``s_row * c``, ``(p[n-1] - p[0]) / (n - 1)`` and ``p[0]``.
    Slices of a tilted gantry drift in their plane: the third column then is not the normal, and the affine is
    sheared, but true. A drift of the whole stack below `UNIFORM_MM` is what direction cosines of few digits leave:
    the third column then is the normal. A single slice takes its thickness (1 mm if unknown) along the normal.

    Raises GeometryError for double slices, missing slices, uneven spacing and slices that are not on one line.
    """
    normal, points = slice_normal(orientation), np.array(positions, dtype=np.float64)
    values = positions_along_normal(positions, orientation)
    if max(pixel_spacing) > LARGEST or (thickness or 0) > LARGEST:
        raise GeometryError("PixelSpacing or SliceThickness is more than a kilometre")
    order = np.argsort(values, kind="stable")
    points, values = points[order], values[order]
    _check_spacing(values)
    row, column = (np.array(part) / np.linalg.norm(part) for part in (orientation[:3], orientation[3:]))
    count = len(points)
    step = (points[-1] - points[0]) / (count - 1) if count > 1 else normal * (thickness or 1.0)
    expected = points[0] + np.arange(count)[:, None] * step
    distance = float(step @ normal)
    if np.abs(points - expected).max() > max(UNIFORM_MM, UNIFORM_RELATIVE * distance):
        raise GeometryError("the slices do not lie on one straight line (ImagePositionPatient)")
    drift = float(np.linalg.norm(step - distance * normal))
    sheared = drift > STRAIGHT * distance
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * pixel_spacing[1], column * pixel_spacing[0]
    affine[:3, 2] = step if drift * (count - 1) > UNIFORM_MM else distance * normal
    affine[:3, 3] = points[0]
    spacing = (float(pixel_spacing[1]), float(pixel_spacing[0]), float(np.linalg.norm(affine[:3, 2])))
    return StackGeometry(tuple(order.tolist()), spacing, tuple(map(tuple, affine.tolist())), sheared)


def _check_spacing(values: Vector) -> None:
    """Refuse what is not uniform, saying what is wrong where."""
    if len(values) < 2:
        return
    steps = np.diff(values)
    if steps.min() <= SAME_POSITION:
        at = int(steps.argmin())
        raise GeometryError(f"two slices lie at one position, {values[at]:.2f} mm")
    mean = float(values[-1] - values[0]) / (len(values) - 1)
    if np.abs(steps - mean).max() <= max(UNIFORM_MM, UNIFORM_RELATIVE * mean):
        return
    # the lower of two medians: of few slices one may be missing
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    at = int(steps.argmax())
    ends = f"between {values[at]:.2f} and {values[at + 1]:.2f} mm"
    missing = round(steps[at] / usual) - 1
    if missing >= 1:
        raise GeometryError(
            f"{missing} slice{'s' if missing > 1 else ''} missing {ends}, usual distance {usual:.2f} mm"
        )
    raise GeometryError(f"uneven slice distances: {steps.min():.3f} to {steps.max():.3f} mm, the largest {ends}")


def angle_between(one: Sequence[float], other: Sequence[float]) -> float:
    """The largest angle between the directions of two orientations, in degrees."""
    first, second = np.array(one).reshape(2, 3), np.array(other).reshape(2, 3)
    cosines = np.clip((first * second).sum(axis=1), -1, 1)
    return float(np.degrees(np.arccos(cosines)).max())


def same_orientation(one: Sequence[float], other: Sequence[float]) -> bool:
    return bool(np.abs(np.array(one) - np.array(other)).max() <= SAME_ORIENTATION)
