"""The clock: steps of all forms in turn, A B C A B C, so that what slows the machine slows them alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch

from seqnorm_monai.benchmarking.cases import DTYPES, Step

# rows of the square matrices whose product tells the machine's rate: large enough to reach it, under a second
MATRIX_ROWS = {"cpu": 2048, "cuda": 8192}
# the shortest measurement: a single step of a millisecond would measure the scheduler
MIN_SECONDS, MAX_CALLS = 0.05, 100


@dataclass(frozen=True)
class Timing:
    """Seconds of one step: the median, the least and the most of ``repeats``."""

    median: float
    minimum: float
    maximum: float
    repeats: int


def summarise(seconds: Sequence[float]) -> Timing:
    """Of at least one measurement."""
    return Timing(median(seconds), min(seconds), max(seconds), len(seconds))


def paired_ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """Median over the rounds of theirs / ours: the two of a round met the same load."""
    return median(a / b for a, b in zip(theirs, ours, strict=True))


def seconds_of(step: Step, device: str, calls: int = 1) -> float:
    """Time of one call, as the mean of ``calls`` in a row; on CUDA between two events, the work before finished."""
    if device != "cuda":
        start = time.perf_counter()
        for _ in range(calls):
            step()
        return (time.perf_counter() - start) / calls
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begin.record()
    for _ in range(calls):
        step()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000.0 / calls


def calls_for(seconds: float) -> int:
    """How often a step of this length runs in one measurement, so that it lasts at least MIN_SECONDS."""
    return max(1, min(MAX_CALLS, math.ceil(MIN_SECONDS / max(seconds, 1e-9))))


def interleave(clocks: Mapping[str, Callable[[], float]], *, repeats: int) -> dict[str, list[float]]:
    """What every clock says in every round; a round asks each once, in the order given.

    Raises:
        ValueError: for fewer than one round.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    seconds: dict[str, list[float]] = {name: [] for name in clocks}
    for _ in range(repeats):
        for name, clock in clocks.items():
            seconds[name].append(clock())
    return seconds


def matrix_multiply_adds(device: str) -> int:
    """Of :func:`matrix_product`."""
    return MATRIX_ROWS[device] ** 3


def matrix_product(device: str, dtype: str) -> Step:
    """A product of two square matrices: what the machine can do at best."""
    rows = MATRIX_ROWS[device]
    a, b = torch.randn(2, rows, rows, device=device, dtype=DTYPES[dtype])
    out = torch.empty_like(a)

    def step() -> None:
        torch.mm(a, b, out=out)

    return step
