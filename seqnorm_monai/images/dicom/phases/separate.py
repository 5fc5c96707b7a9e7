"""Separate the planes of a stack into phases: groups in which every position of the stack occurs once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seqnorm_monai.images.dicom.geometry import GeometryError, position_labels, positions_along_normal
from seqnorm_monai.images.dicom.phase_attributes import EXACT, PHYSICAL, Value
from seqnorm_monai.images.dicom.phases.acquisition_order import acquisition_ranks, last_resort_ranks
from seqnorm_monai.images.dicom.phases.expected_counts import count_warning
from seqnorm_monai.images.dicom.phases.table import Codes, Column, column, joined, members, partition, title
from seqnorm_monai.images.dicom.plane import Plane

_MAX_COMBINATION = 3
# names of what separates without a value of its own: the rank in time at each position
TIME_ORDER = "TimeOrder"
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Phase:
    """The planes of one phase along the normal, what tells it apart (names, values; label "" for a single phase).

    `warning` says what looks incomplete in the stack, but need not be.
    """

    planes: tuple[Plane, ...]
    names: tuple[str, ...] = ()
    values: tuple[Value, ...] = ()
    label: str = ""
    warning: str = ""


@dataclass(frozen=True)
class _Stack:
    """`positions` along the normal (mm) and their numbers, `slice_index`, of each plane.

    `table`: the attributes that differ between planes, in their order.
    """

    planes: tuple[Plane, ...]
    positions: npt.NDArray[np.float64]
    slice_index: Codes
    table: dict[str, Column]


def separate_phases(planes: Sequence[Plane]) -> list[Phase]:
    """The phases of a stack, in the order of what tells them apart.

    Planes are first divided by what one image cannot mix: component of the complex signal, original or derived,
    echo time, inversion time, b-value, tube voltage. With at most m slices at one position such a group has m
    phases. A set of up to three attributes of `EXACT` is a solution if its values make exactly m groups in which no
    position repeats; so is the order of acquisition, if all slices of one phase are earlier than all of the next.
    Solutions must agree. Without one, trigger times are ranked at each position, then content times.

    Raises GeometryError when nothing tells the slices apart, when solutions contradict each other, or when a phase
    lacks a slice that another has.
    """
    stack = _stack(planes)
    everything = np.arange(len(stack.planes))
    if len(everything) == int(stack.slice_index.max()) + 1:
        _check_physical(stack, everything)
        return [Phase(stack.planes, warning=count_warning(stack.planes, 1, ()))]
    names = _physical_names(stack)
    codes = joined([stack.table[name].codes for name in names], len(everything))
    numbers = np.zeros(len(everything), dtype=np.int64)
    ranks: Codes | None = None
    used = set(names)
    for group in members(codes):
        more, numbers[group] = _separate(stack, group)
        used |= set(more)
        if TIME_ORDER in more:
            ranks = np.zeros(len(everything), dtype=np.int64) if ranks is None else ranks
            ranks[group] = numbers[group] + 1
    groups = members(joined([codes, numbers], len(everything)))
    for group in groups:
        _check_physical(stack, group)
    ordered = [name for name in EXACT if name in used]
    found = [(_values(stack, group, ordered, ranks), group) for group in groups]
    found.sort(key=lambda item: tuple(rank for rank, _ in item[0]))
    ordered += [TIME_ORDER] if ranks is not None else []
    labelled = [(tuple(value for _, value in values), group) for values, group in found]
    _check_coverage(stack, [(title(ordered, values), group) for values, group in labelled])
    warning = count_warning(stack.planes, len(groups), ordered)
    return [
        Phase(tuple(stack.planes[i] for i in group), tuple(ordered), values, title(ordered, values), warning)
        for values, group in labelled
    ]


def _stack(planes: Sequence[Plane]) -> _Stack:
    """Planes sorted along the normal, so that the first is the same in whatever order they came."""
    values = positions_along_normal([plane.position for plane in planes], planes[0].orientation)
    slice_index = position_labels(values)
    order = sorted(range(len(planes)), key=lambda i: (slice_index[i], planes[i].sop_instance_uid, planes[i].frame))
    columns = (column(name, [planes[i].phase.get(name) for i in order]) for name in EXACT)
    table = {found.name: found for found in columns if len(found.values) > 1}
    return _Stack(tuple(planes[i] for i in order), values[order], slice_index[order], table)


def _physical_names(stack: _Stack) -> list[str]:
    """Attributes to divide by: each must refine the ones before, and none of its values may lack positions.

    One that is absent in single slices (garbage) or varies along the stack cannot divide; `_check_physical` sees to
    it that no phase mixes its values.
    """
    every, names, known = len(np.unique(stack.slice_index)), [], np.zeros(len(stack.planes), dtype=np.int64)
    for name in (name for name in PHYSICAL if name in stack.table):
        codes = stack.table[name].codes
        pairs = np.unique(np.stack([codes, stack.slice_index]), axis=1)
        finer = joined([known, codes], len(codes))
        # absent from a slice that is there twice is a value of its own, absent from one slice is garbage
        whole = stack.table[name].known.all() or (np.bincount(pairs[0]) == every).all()
        if whole and finer.max() > known.max():
            names.append(name)
            known = finer
    return names


def _separate(stack: _Stack, group: Indices) -> tuple[tuple[str, ...], Codes]:
    """What divides a group into phases, and the number of the phase of each plane. Raises GeometryError."""
    slice_index = np.unique(stack.slice_index[group], return_inverse=True)[1].reshape(-1)
    counts = np.bincount(slice_index)
    needed = int(counts.max())
    if needed == 1:
        return (), np.zeros(len(group), dtype=np.int64)
    solutions = _solutions(stack, group, slice_index, needed)
    planes = [stack.planes[index] for index in group]
    if (counts == needed).all() and (ranks := acquisition_ranks(planes, slice_index, needed)) is not None:
        solutions.append(((TIME_ORDER,), ranks))
    solutions = [(names, codes) for names, codes in solutions if _is_physical(stack, group, codes)]
    if len({partition(codes) for _, codes in solutions}) > 1:
        first = solutions[0]
        other = next(names for names, codes in solutions if partition(codes) != partition(first[1]))
        called = [" and ".join(EXACT[n][0] if n in EXACT else "acquisition time" for n in m) for m in (first[0], other)]
        raise GeometryError(f"{called[0]} and {called[1]} divide the slices into different phases")
    if solutions:
        return solutions[0]
    if (counts != needed).any():
        raise GeometryError(
            f"{int(counts.min())} to {needed} slices lie at one position and nothing tells phases apart: "
            "a slice is missing or double"
        )
    if (ranks := last_resort_ranks(planes, slice_index, needed)) is not None and _is_physical(stack, group, ranks):
        return (TIME_ORDER,), ranks
    raise GeometryError(f"{needed} slices lie at one position and nothing tells them apart")


def _solutions(stack: _Stack, group: Indices, slice_index: Codes, needed: int) -> list[tuple[tuple[str, ...], Codes]]:
    """Sets of attributes whose values make `needed` groups without a repeated position; none contains another."""
    varying = _varying(stack, group, needed)
    solutions: list[tuple[tuple[str, ...], Codes]] = []
    for names in _sets_with_groups(varying, needed, len(group)):
        codes = joined([varying[name] for name in names], len(group))
        if len(np.unique(codes * (slice_index.max() + 1) + slice_index)) == len(group):
            solutions.append((names, codes))
    return solutions


def _sets_with_groups(varying: dict[str, Codes], needed: int, count: int) -> Iterator[tuple[str, ...]]:
    """Sets of up to `_MAX_COMBINATION` attributes that make exactly `needed` groups, the smallest first.

    More attributes make as many groups or more, and what is added to a set that has enough changes nothing or makes too
    many: only sets with too few are built on. Groups are counted among planes that differ in an attribute, however many
    of each kind there are.
    """
    _, different = np.unique(joined(list(varying.values()), count), return_index=True)
    columns = [(name, codes[different]) for name, codes in varying.items()]
    enough: list[set[str]] = []
    # names, groups, and the place of the first attribute that may be added
    growing: list[tuple[tuple[str, ...], list[Codes], int]] = [((), [], 0)]
    for _ in range(_MAX_COMBINATION):
        larger = []
        for known, groups, first in growing:
            for place, (name, codes) in enumerate(columns[first:], first + 1):
                names = (*known, name)
                if any(one <= set(names) for one in enough):
                    continue
                more = joined([*groups, codes], len(different))
                if (found := int(more.max()) + 1) < needed:
                    larger.append((names, [more], place))
                    continue
                enough.append(set(names))
                if found == needed:
                    yield names
        growing = larger


def _varying(stack: _Stack, group: Indices, needed: int) -> dict[str, Codes]:
    """Attributes that may be part of a solution, one for each way to divide the planes."""
    varying: dict[str, Codes] = {}
    seen: set[bytes] = set()
    for name, found in stack.table.items():
        codes = found.codes[group]
        kind = partition(codes)
        # what makes more groups than there are phases cannot be part of a solution
        if kind not in seen and 1 < len(np.unique(codes)) <= needed:
            seen.add(kind)
            varying[name] = codes
    return varying


def _is_physical(stack: _Stack, group: Indices, codes: Codes) -> bool:
    """Whether no part mixes known values of what is one value within a phase."""
    for name in (name for name in PHYSICAL if name in stack.table):
        found = stack.table[name]
        known = found.known[group]
        pairs = np.unique(np.stack([codes[known], found.codes[group][known]]), axis=1)
        if len(np.unique(pairs[0])) < pairs.shape[1]:
            return False
    return True


def _check_physical(stack: _Stack, group: Indices) -> None:
    for name in (name for name in PHYSICAL if name in stack.table):
        found = stack.table[name]
        if len(np.unique(found.codes[group][found.known[group]])) > 1:
            raise GeometryError(f"the slices of one volume differ in {EXACT[name][0]} ({name})")


def _values(stack: _Stack, group: Indices, names: Sequence[str], ranks: Codes | None) -> list[tuple[int, Value]]:
    """Rank and value of each attribute in one phase; none for one that differs within it."""
    found: list[tuple[int, Value]] = []
    for name in names:
        codes = np.unique(stack.table[name].codes[group])
        code = int(codes[0]) if len(codes) == 1 else -1
        found.append((code, stack.table[name].values[code] if code >= 0 else None))
    if ranks is not None:
        rank = int(ranks[group[0]])
        found.append((rank, float(rank) if rank else None))
    return found


def _check_coverage(stack: _Stack, phases: Sequence[tuple[str, Indices]]) -> None:
    every = set(stack.slice_index.tolist())
    for label, group in phases:
        own = stack.slice_index[group].tolist()
        if len(set(own)) < len(own):
            raise GeometryError(f"{label}: two slices lie at one position")
        if lacking := every - set(own):
            at = float(stack.positions[stack.slice_index == min(lacking)].min())
            raise GeometryError(f"{label}: no slice at {at:.2f} mm, where other phases have one")
