"""Phases by the order in which the slices at each position were taken."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from seqnorm_monai.images.dicom.phase_attributes import ACQUISITION_CLOCKS, DATES
from seqnorm_monai.images.dicom.phases.table import Codes
from seqnorm_monai.images.dicom.plane import Plane

_DAY = 86400.0
# Trigger times (ms) nearer than this are not in order.
_TRIGGER_NOISE = 1e-3


def acquisition_ranks(planes: Sequence[Plane], slice_index: Codes, needed: int) -> Codes | None:
    """The rank of each plane at its position, if all planes of one rank are earlier than all of the next.

    `slice_index` numbers the positions from 0; each holds `needed` planes.
    """
    found = (_blocks(planes, name, slice_index, needed) for name in ACQUISITION_CLOCKS)
    return next((ranks for ranks in found if ranks is not None), None)


def last_resort_ranks(planes: Sequence[Plane], slice_index: Codes, needed: int) -> Codes | None:
    """Ranks of trigger times, then of content times.

    The k-th trigger time at a position is its k-th cardiac phase, although heart beats differ between positions.
    """
    triggers = _known(planes, "TriggerTime")
    if triggers is not None and (ranks := _ranks(triggers, slice_index, needed, _TRIGGER_NOISE)) is not None:
        return ranks
    return _blocks(planes, "ContentTime", slice_index, needed)


def seconds(planes: Sequence[Plane], name: str) -> npt.NDArray[np.float64] | None:
    """When the planes were taken; a time without a date goes on past midnight. None unless all have the time."""
    times = _known(planes, name)
    if times is None or name not in DATES:
        return times
    days = _known(planes, DATES[name])
    if days is not None and np.ptp(days) > 0:
        return times + (days - days.min()) * _DAY
    # nobody lies in a scanner for half a day: late and early times are before and after midnight
    return np.where(times < _DAY / 2, times + _DAY, times) if np.ptp(times) > _DAY / 2 else times


def _known(planes: Sequence[Plane], name: str) -> npt.NDArray[np.float64] | None:
    values = [plane.phase.get(name) for plane in planes]
    numbers = [value for value in values if isinstance(value, float)]
    return np.array(numbers) if len(numbers) == len(planes) else None


def _blocks(planes: Sequence[Plane], name: str, slice_index: Codes, needed: int) -> Codes | None:
    times = seconds(planes, name)
    ranks = None if times is None else _ranks(times, slice_index, needed, 0.0)
    if times is None or ranks is None:
        return None
    blocks = [times[ranks == rank] for rank in range(needed)]
    return ranks if all(one.max() < two.min() for one, two in pairwise(blocks)) else None


def _ranks(times: npt.NDArray[np.float64], slice_index: Codes, needed: int, noise: float) -> Codes | None:
    """The rank in time at each position; None if two times there are not clearly in order."""
    order = np.lexsort((times, slice_index))
    sorted_times = times[order].reshape(-1, needed)
    if (np.diff(sorted_times, axis=1) <= noise).any():
        return None
    ranks = np.empty(len(times), dtype=np.int64)
    ranks[order] = np.tile(np.arange(needed), len(sorted_times))
    return ranks
