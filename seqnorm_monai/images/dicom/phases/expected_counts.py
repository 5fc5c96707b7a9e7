"""What the headers say a series holds, against what is there: slices lost at the edge of a stack leave no gap.

Two kinds of statements are trusted so far that a contradiction refuses the series: the number of parts of a
concatenation (PS3.3 section C.7.6.16.1.1), and Images in Acquisition together with Instance Number, when both say
that a few slices are missing at the same place. Either of the two alone is not: Images in Acquisition may count the
images of other series, and an archive may number images anew. What only one of them says is a warning.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from seqnorm_monai.images.dicom.geometry import GeometryError, positions_along_normal
from seqnorm_monai.images.dicom.plane import Plane

# More than this part of a stack is not an edge: such counts belong to several series of one acquisition.
_EDGE = 4


def check_expected_counts(stacks: Sequence[Sequence[Plane]]) -> None:
    """Raise GeometryError if parts of a concatenation, or slices at the edge of the only stack, are missing."""
    check_concatenations([plane for stack in stacks for plane in stack])
    if len(stacks) == 1 and (lost := _lost_edge(stacks[0])):
        raise GeometryError(
            f"{lost} slice{'s' if lost > 1 else ''} missing at the edge, by ImagesInAcquisition and InstanceNumber"
        )


def count_warning(planes: Sequence[Plane], phases: int, names: Sequence[str]) -> str:
    """What looks incomplete in the phases of one stack, but may be so on purpose; "" if nothing does."""
    expected = _single(planes, "NumberOfTemporalPositions")
    if "TemporalPosition" in names and expected is not None and expected > phases:
        return f"{phases} phases, NumberOfTemporalPositions is {expected}"
    expected = _single(planes, "ImagesInAcquisition")
    if phases == 1 and expected is not None and len(planes) < expected < 2 * len(planes):
        return f"{len(planes)} images, ImagesInAcquisition is {expected}"
    return ""


def _single(planes: Sequence[Plane], name: str) -> int | None:
    """The one whole number that all planes have; None if they differ."""
    found = {plane.phase.get(name) for plane in planes}
    value = found.pop() if len(found) == 1 else None
    return int(value) if isinstance(value, float) and value == int(value) else None


def check_concatenations(planes: Iterable[Plane]) -> None:
    """Raise GeometryError if parts of a concatenation are missing."""
    totals: dict[str, set[float]] = defaultdict(set)
    parts: dict[str, set[str]] = defaultdict(set)
    for plane in planes:
        uid, total = plane.phase.get("ConcatenationUID"), plane.phase.get("InConcatenationTotalNumber")
        if isinstance(uid, str) and isinstance(total, float):
            totals[uid].add(total)
            parts[uid].add(plane.sop_instance_uid or plane.name)
    for uid, total in totals.items():
        if len(total) > 1 or len(parts[uid]) < max(total):
            raise GeometryError(f"{len(parts[uid])} of {max(total):g} parts of a concatenation")


def _lost_edge(planes: Sequence[Plane]) -> int:
    """How many slices are missing below the first or above the last Instance Number; 0 if that cannot be known.

    Only for slices whose numbers follow each other along the normal without a gap, in one acquisition.
    """
    count, expected = len(planes), _single(planes, "ImagesInAcquisition")
    acquisitions = {plane.phase.get("AcquisitionNumber") for plane in planes}
    if expected is None or len(acquisitions) > 1 or count < 2 or planes[0].position is None:
        return 0
    found = [plane.phase.get("InstanceNumber") for plane in planes]
    numbers = np.array([number for number in found if isinstance(number, float)])
    if len(numbers) < count:
        return 0
    positions = positions_along_normal([plane.position for plane in planes], planes[0].orientation)
    steps = set(np.diff(numbers[np.argsort(positions, kind="stable")]).tolist())
    outside = numbers.min() - 1 + expected - numbers.max()
    in_range = numbers.min() >= 1 and numbers.max() <= expected
    follow = steps in ({1.0}, {-1.0})
    return int(outside) if follow and in_range and 0 < outside <= max(1, count // _EDGE) else 0
