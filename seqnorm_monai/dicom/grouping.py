"""Split the planes of one series into stacks that may be one volume, and each stack into its phases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from seqnorm_monai.dicom.geometry import (
    SMALL_TILT,
    GeometryError,
    heights,
    position_labels,
    same_orientation,
    tilt,
)
from seqnorm_monai.dicom.instance import Plane
from seqnorm_monai.dicom.phase_values import EXACT, TIMES, Value

# Values of Image Type that mark what was computed from other images (PS3.3 sections C.8.3.1.1.1, C.8.13.3.1.1).
DERIVED_KINDS = frozenset(
    "ADC EADC FA TRACE TRACEW DIFFUSION_ADC CBF CBV MTT TTP TMAX R2STAR_MAP T2STAR_MAP T1_MAP T2_MAP T1 T2 MIP MINIP "
    "AVERAGE PROJECTION MPR REFORMATTED VRT SUBTRACTION SUBTRACT SUB".split()
)
# What cannot vary within one phase.
_PHYSICAL = ("EchoTime", "BValue", "InversionTime")
_MAX_COMBINATION = 3


@dataclass(frozen=True)
class Phase:
    """The planes of one phase: what tells it apart (names, values) and how it is called; "" for a single phase."""

    planes: tuple[Plane, ...]
    names: tuple[str, ...] = ()
    values: tuple[Value, ...] = ()
    label: str = ""


def derived_kind(image_type: Iterable[str]) -> str:
    """The computed kind that an Image Type names, e.g. "ADC"; "" for an image as it was acquired."""
    return " ".join(sorted(set(image_type) & DERIVED_KINDS))


def split_stacks(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Planes that may be one volume, together: same size, colour, spacing, frame of reference, stack, orientation.

    Planes without position or orientation stay alone, one list each, but frames of one file together.
    Raises GeometryError when orientations differ by a small tilt: neither one stack nor two.
    """
    groups: dict[Hashable, list[Plane]] = defaultdict(list)
    for plane in planes:
        if plane.position is None or plane.orientation is None:
            groups[plane.name, plane.path].append(plane)
        else:
            spacing = plane.spacing and tuple(round(value, 3) for value in plane.spacing)
            size = plane.rows, plane.columns, plane.channels
            kind = derived_kind(plane.image_type)
            groups[size, spacing, plane.frame_of_reference, plane.stack, kind].append(plane)
    stacks: list[list[Plane]] = []
    for group in groups.values():
        stacks += [group] if group[0].orientation is None or group[0].position is None else _by_orientation(group)
    return stacks


def _by_orientation(planes: Sequence[Plane]) -> list[list[Plane]]:
    stacks: list[list[Plane]] = []
    for plane in planes:
        fitting = [stack for stack in stacks if same_orientation(stack[0].orientation, plane.orientation)]
        if fitting:
            fitting[0].append(plane)
            continue
        for stack in stacks:
            angle = tilt(stack[0].orientation, plane.orientation)
            if angle < SMALL_TILT:
                raise GeometryError(f"slices of one series are tilted against each other by {angle:.2f} degrees")
        stacks.append([plane])
    return stacks


def separate_phases(planes: Sequence[Plane]) -> list[Phase]:
    """The phases of a stack: groups in which no position repeats.

    With at most m slices at one position there are m phases. The attributes of `EXACT` are tried in their order,
    then two and three of them together, then times: a set of attributes is taken if its values make exactly m
    groups, no position repeats in a group, and no group mixes echo times, b-values or inversion times. The phases
    must then cover the same positions. Where no position repeats the stack is one phase.

    Raises GeometryError when nothing tells the slices apart, or a phase lacks a slice that another has.
    """
    labels = position_labels(heights([plane.position for plane in planes], planes[0].orientation))
    counts = [labels.count(label) for label in set(labels)]
    needed = max(counts)
    physical = {tuple(plane.phase.get(name) for name in _PHYSICAL) for plane in planes}
    if needed == 1 and len(physical) == 1:
        return [Phase(tuple(planes))]
    if needed == 1:
        raise GeometryError("echo time, b-value or inversion time differs between the slices of one volume")
    varying = [name for name in EXACT if len({plane.phase.get(name) for plane in planes}) > 1]
    for size in range(1, _MAX_COMBINATION + 1):
        for names in combinations(varying, size):
            phases = _group(planes, names)
            if len(phases) == needed and all(_is_phase(phase, planes, labels) for phase in phases):
                _check_same_positions(phases, planes, labels)
                return phases
    phases = _by_time(planes, labels, needed)
    if phases is None:
        raise GeometryError(f"{needed} slices lie at one position and nothing tells them apart")
    return phases


def _sort_key(values: Sequence[Value]) -> tuple[tuple[int, object], ...]:
    """Missing values first; numbers, tuples and texts never compared with each other."""
    ranks: tuple[Callable[[Value], bool], ...] = (
        lambda value: value is None,
        lambda value: isinstance(value, float),
        lambda value: isinstance(value, tuple),
        lambda value: isinstance(value, str),
    )
    return tuple(
        (next(rank for rank, fits in enumerate(ranks) if fits(value)), 0 if value is None else value)
        for value in values
    )


def _group(planes: Sequence[Plane], names: tuple[str, ...]) -> list[Phase]:
    groups: dict[tuple[Value, ...], list[Plane]] = defaultdict(list)
    for plane in planes:
        groups[tuple(plane.phase.get(name) for name in names)].append(plane)
    return [
        Phase(tuple(groups[values]), names, values, _label(names, values)) for values in sorted(groups, key=_sort_key)
    ]


def _label(names: Sequence[str], values: Sequence[Value]) -> str:
    def text(value: Value) -> str:
        if value is None:
            return "none"
        parts = value if isinstance(value, tuple) else (value,)
        return " ".join(f"{part:g}" if isinstance(part, float) else part for part in parts)

    return ", ".join(f"{EXACT[name][0]} {text(value)}" for name, value in zip(names, values, strict=True))


def _is_phase(phase: Phase, planes: Sequence[Plane], labels: Sequence[int]) -> bool:
    """Whether no position repeats, and nothing differs that cannot differ within a phase."""
    own = _positions(phase, planes, labels)
    physical = {tuple(plane.phase.get(name) for name in _PHYSICAL) for plane in phase.planes}
    return len(own) == len(phase.planes) and len(physical) == 1


def _positions(phase: Phase, planes: Sequence[Plane], labels: Sequence[int]) -> set[int]:
    members = {id(plane) for plane in phase.planes}
    return {label for plane, label in zip(planes, labels, strict=True) if id(plane) in members}


def _check_same_positions(phases: Sequence[Phase], planes: Sequence[Plane], labels: Sequence[int]) -> None:
    every = set(labels)
    values = heights([plane.position for plane in planes], planes[0].orientation)
    for phase in phases:
        if lacking := every - _positions(phase, planes, labels):
            at = values[labels.index(min(lacking))]
            raise GeometryError(f"{phase.label}: no slice at {at:.2f} mm, where other phases have one")


def _by_time(planes: Sequence[Plane], labels: Sequence[int], needed: int) -> list[Phase] | None:
    """Phases by rank in time at each position, if every slice of one is earlier than all of the next."""
    if any(labels.count(label) != needed for label in set(labels)):
        return None
    for keyword in TIMES:
        if not all(keyword in plane.phase for plane in planes):
            continue
        ranks: dict[int, list[Plane]] = defaultdict(list)
        order = sorted(range(len(planes)), key=lambda index: planes[index].phase[keyword])
        for index in order:
            ranks[sum(labels[other] == labels[index] for other in order[: order.index(index)])].append(planes[index])
        times = [[plane.phase[keyword] for plane in ranks[rank]] for rank in range(needed)]
        physical = [{tuple(p.phase.get(name) for name in _PHYSICAL) for p in ranks[rank]} for rank in range(needed)]
        disjoint = all(max(one) < min(two) for one, two in zip(times, times[1:], strict=False))
        if disjoint and all(len(kinds) == 1 for kinds in physical):
            return [
                Phase(tuple(ranks[rank]), ("TimeOrder",), (float(rank + 1),), f"time order {rank + 1}")
                for rank in range(needed)
            ]
    return None
