"""Split the planes of one series into stacks: planes that may be one volume, in one or several phases."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from seqnorm_monai.images.dicom.geometry import (
    LARGEST,
    SMALL_TILT,
    UNIFORM_MM,
    GeometryError,
    angle_between,
    position_labels,
    positions_along_normal,
    same_orientation,
    slice_normal,
)
from seqnorm_monai.images.dicom.plane import Plane

# Values of Image Type that mark what was computed from other images (PS3.3 sections C.8.3.1.1.1, C.8.13.3.1.1).
DERIVED_KINDS = frozenset(
    (
        *("ADC", "EADC", "FA", "TRACE", "TRACEW", "DIFFUSION_ADC", "CBF", "CBV", "MTT"),
        *("TTP", "TMAX", "R2STAR_MAP", "T2STAR_MAP", "T1_MAP", "T2_MAP"),
        *("MIP", "MINIP", "AVERAGE", "PROJECTION", "MPR", "REFORMATTED"),
        *("VRT", "SUBTRACTION", "SUBTRACT", "SUB"),
    )
)
# As the fourth value they name a map; as the third, the flavour, they are a weighting (PS3.3 section C.8.13.3.1).
_MAPS = frozenset(("T1", "T2"))
# Pixel spacings that differ by less, in parts of their size, are one.
_SAME_SPACING = 1e-3
# A hole of so many slice distances between slices of different acquisitions lies between two slabs; a smaller one may
# be slices that are missing.
_SLAB_GAP = 3
# So many slices of one size and orientation, each in a frame of reference of its own, are no coincidence.
_MANY = 3


def derived_kind(image_type: Iterable[str]) -> str:
    """The computed kind that an Image Type names, e.g. "ADC"; "" for an image as it was acquired."""
    values = [value.replace(" ", "_") for value in image_type]
    return " ".join(sorted((set(values) & DERIVED_KINDS) | (set(values[3:]) & _MAPS)))


def lone_stacks(planes: Iterable[Plane]) -> list[list[Plane]]:
    """Planes of which nothing is asked, in the order of their instance numbers: one stack for each file."""
    files: dict[Hashable, list[Plane]] = defaultdict(list)
    for plane in sorted(planes, key=_order):
        files[plane.name, plane.path].append(plane)
    return list(files.values())


def split_stacks(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Planes that may be one volume, together: same size, colour, spacing, frame of reference, stack, orientation.

    The result does not depend on the order of `planes`. Planes without position or orientation stay alone, one list
    each, but frames of one file together. Raises GeometryError when orientations differ by a small tilt (neither one
    stack nor two) or are none, when position, orientation or spacing of some slices is absent, or slices lie side by
    side in no order.
    """
    groups: dict[Hashable, list[Plane]] = defaultdict(list)
    unplaced = lone_stacks(plane for plane in planes if plane.position is None or plane.orientation is None)
    placed_files = set()
    for plane in sorted(planes, key=_order):
        if plane.position is not None and plane.orientation is not None:
            size, kind = (plane.rows, plane.columns, plane.channels), derived_kind(plane.image_type)
            groups[size, plane.frame_of_reference, plane.stack, kind].append(plane)
            placed_files.add((plane.name, plane.path))
    if placed_files & {(stack[0].name, stack[0].path) for stack in unplaced}:
        raise GeometryError("some frames of a file have a position and an orientation, others have none")
    if _kinds(groups.values()) & _kinds(unplaced):
        raise GeometryError("some slices have a position and an orientation, others of the same kind have none")
    _check_references(groups.values())
    stacks = [
        stack
        for group in groups.values()
        for same_spacing in _by_spacing(group)
        for oriented in _by_orientation(same_spacing)
        for beside in _side_by_side(oriented)
        for stack in _slabs(beside)
    ]
    return sorted(stacks, key=lambda stack: _order(stack[0])) + unplaced


def _check_references(groups: Iterable[Sequence[Plane]]) -> None:
    """Refuse slices of which each is in a frame of reference of its own: they would be as many single images."""
    alone: dict[Hashable, int] = defaultdict(int)
    for group in groups:
        plane = group[0]
        if len(group) == 1:
            orientation = tuple(round(value, 3) for value in plane.orientation or ())
            alone[plane.rows, plane.columns, plane.channels, plane.image_type, plane.stack, orientation] += 1
    if (most := max(alone.values(), default=0)) >= _MANY:
        raise GeometryError(f"{most} slices, each with a FrameOfReferenceUID of its own (lost when UIDs were replaced)")


def _kinds(groups: Iterable[Sequence[Plane]]) -> set[Hashable]:
    """Size and Image Type of planes: those of a screenshot differ from those of the slices beside it."""
    return {(plane.rows, plane.columns, plane.channels, plane.image_type) for group in groups for plane in group}


def _order(plane: Plane) -> tuple[float, str, int, str]:
    number = plane.phase.get("InstanceNumber")
    return number if isinstance(number, float) else math.inf, plane.sop_instance_uid, plane.frame, plane.name


def _by_spacing(planes: Sequence[Plane]) -> list[list[Plane]]:
    if 0 < sum(plane.spacing is None for plane in planes) < len(planes):
        raise GeometryError("some slices have no PixelSpacing, or one that cannot be read")
    if any(plane.spacing is not None and max(plane.spacing) > LARGEST for plane in planes):
        raise GeometryError("PixelSpacing is more than a kilometre")
    stacks: list[list[Plane]] = []
    places: dict[Hashable, int] = {}
    for plane in planes:
        if plane.spacing not in places:
            near = (place for place, stack in enumerate(stacks) if _same_spacing(stack[0].spacing, plane.spacing))
            places[plane.spacing] = next(near, len(stacks))
        if places[plane.spacing] == len(stacks):
            stacks.append([])
        stacks[places[plane.spacing]].append(plane)
    return stacks


def _same_spacing(one: tuple[float, float] | None, other: tuple[float, float] | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(math.isclose(a, b, rel_tol=_SAME_SPACING) for a, b in zip(one, other, strict=True))


def _by_orientation(planes: Sequence[Plane]) -> list[list[Plane]]:
    by_value: dict[tuple[float, ...], list[Plane]] = defaultdict(list)
    for plane in planes:
        by_value[tuple(plane.orientation or ())].append(plane)
    stacks: list[tuple[tuple[float, ...], list[Plane]]] = []
    # in the order of the values, so that noise is joined in the same way whatever the order of the files
    for orientation in sorted(by_value):
        slice_normal(orientation)
        fitting = [stack for known, stack in stacks if same_orientation(known, orientation)]
        if fitting:
            fitting[0].extend(by_value[orientation])
            continue
        angle = min((angle_between(known, orientation) for known, _ in stacks), default=180.0)
        if angle < SMALL_TILT:
            raise GeometryError(f"slices of one series are tilted against each other by {angle:.2f} degrees")
        stacks.append((orientation, list(by_value[orientation])))
    return [sorted(stack, key=_order) for _, stack in stacks]


def _side_by_side(planes: list[Plane]) -> list[list[Plane]]:
    """Stacks of one orientation that lie beside each other, as those of two knees: at one height, but not one place.

    Where each height has one place there is one stack, whether it drifts (gantry tilt) or not. Else slices of one
    place in the plane belong together.
    """
    values = positions_along_normal([plane.position for plane in planes], planes[0].orientation)
    slice_index = position_labels(values)
    directions = np.array(planes[0].orientation).reshape(2, 3)
    inplane = np.array([plane.position for plane in planes]) @ directions.T
    spread = np.zeros(int(slice_index.max()) + 1)
    for axis in inplane.T:
        high, low = np.full(len(spread), -np.inf), np.full(len(spread), np.inf)
        np.maximum.at(high, slice_index, axis)
        np.minimum.at(low, slice_index, axis)
        spread = np.maximum(spread, high - low)
    if spread.max() <= UNIFORM_MM:
        return [planes]
    places = np.stack([position_labels(axis, UNIFORM_MM) for axis in inplane.T], axis=1)
    _, members = np.unique(places, axis=0, return_inverse=True)
    stacks = [[planes[i] for i in np.flatnonzero(members.reshape(-1) == number)] for number in range(members.max() + 1)]
    if len(spread) > 1 and min(len(stack) for stack in stacks) == 1:
        at = float(values[slice_index == int(spread.argmax())].min())
        raise GeometryError(f"slices lie beside each other at {at:.2f} mm and cannot be told apart")
    return sorted(stacks, key=lambda stack: _order(stack[0]))


def _slabs(planes: list[Plane]) -> list[list[Plane]]:
    """Slabs of different acquisitions with a wide hole between them; else the planes as they are."""
    values = positions_along_normal([plane.position for plane in planes], planes[0].orientation)
    slice_index = position_labels(values)
    if slice_index.max() < 3:
        return [planes]
    steps = np.diff([values[slice_index == level].min() for level in range(int(slice_index.max()) + 1)])
    usual = float(np.median(steps))
    holes = np.flatnonzero(steps > _SLAB_GAP * usual * (1 + 1e-3))
    if not len(holes):
        return [planes]
    block = np.searchsorted(holes, slice_index, side="left")
    slabs = [[planes[index] for index in np.flatnonzero(block == number)] for number in range(len(holes) + 1)]
    numbers = [{plane.phase.get("AcquisitionNumber") for plane in slab} for slab in slabs]
    distinct = len(set.union(*numbers)) == sum(map(len, numbers)) and None not in set.union(*numbers)
    thick = all(len(np.unique(slice_index[block == number])) > 1 for number in range(len(slabs)))
    return slabs if distinct and thick else [planes]
