"""The moments of phases: seconds since the first, by whichever clock tells all of them apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from seqnorm_monai.images.dynamic.candidates import Candidate

_DAY = 86_400.0
# two phases are never nearer in time: what is less apart is one moment written twice
_SHORTEST = 0.5

Clock = Callable[[Candidate], float | None]


def _moment(name: str) -> Clock:
    return lambda phase: phase.clock(name)


def _with_date(time: str, date: str) -> Clock:
    def clock(phase: Candidate) -> float | None:
        seconds, days = phase.clock(time), phase.clock(date)
        return None if seconds is None or days is None else days * _DAY + seconds

    return clock


def _with_trigger(clock: Clock) -> Clock:
    """The start of a series, and the milliseconds of a phase since then."""

    def moment(phase: Candidate) -> float | None:
        start, trigger = clock(phase), phase.clock("TriggerTime")
        return None if start is None or trigger is None else start + trigger / 1000

    return moment


# Named as they are said to the user, in the order of trust; whether the seconds of the clock begin anew at midnight.
_CLOCKS: tuple[tuple[str, Clock, bool], ...] = (
    ("AcquisitionDateTime", _moment("AcquisitionDateTime"), False),
    ("FrameAcquisitionDateTime", _moment("FrameAcquisitionDateTime"), False),
    ("FrameReferenceDateTime", _moment("FrameReferenceDateTime"), False),
    ("AcquisitionDate and AcquisitionTime", _with_date("AcquisitionTime", "AcquisitionDate"), False),
    ("AcquisitionTime", _moment("AcquisitionTime"), True),
    ("AcquisitionTime and TriggerTime", _with_trigger(_moment("AcquisitionTime")), True),
    ("TriggerTime", lambda phase: _scaled(phase.clock("TriggerTime")), False),
    ("ContentDate and ContentTime", _with_date("ContentTime", "ContentDate"), False),
    ("ContentTime", _moment("ContentTime"), True),
)
# numbers that order the phases of one series without telling seconds
_ORDERS = ("TemporalPosition", "AcquisitionNumber")


def in_time(phases: Sequence[Candidate]) -> tuple[list[Candidate], list[float] | None, str] | None:
    """The phases in the order of time, their seconds since the first (None where unknown), and by which clock.

    A clock counts if all phases have it and no two of them at one moment; None where none does.
    """
    for name, clock, is_daily in _CLOCKS:
        values = [clock(phase) for phase in phases]
        if any(value is None for value in values) or (name == "TriggerTime" and not _is_one_series(phases)):
            continue
        moments = _over_midnight(values) if is_daily else values
        order = sorted(range(len(phases)), key=lambda place: moments[place])
        seconds = [moments[place] - moments[order[0]] for place in order]
        if all(later - earlier >= _SHORTEST for earlier, later in pairwise(seconds)):
            return [phases[place] for place in order], seconds, name
    if _is_one_series(phases):
        for name in _ORDERS:
            values = [phase.clock(name) for phase in phases]
            if None not in values and len(set(values)) == len(values):
                order = sorted(range(len(phases)), key=lambda place: values[place])
                return [phases[place] for place in order], None, name
    return None


def _scaled(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _is_one_series(phases: Sequence[Candidate]) -> bool:
    return len({phase.series for phase in phases}) == 1


def _over_midnight(values: Sequence[float]) -> list[float]:
    """Times of a day; of a study that passes midnight the early ones belong to the next day."""
    if max(values) - min(values) <= _DAY / 2:
        return list(values)
    return [value + _DAY if value < _DAY / 2 else value for value in values]
