"""One cell of a benchmark: every form at one size, timed in turn, then weighed one by one; rows for a CSV.

A form that would not end in time or not fit has a row too, with the reason in the column ``skipped``.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from seqnorm_monai.benchmarking.cases import Case, NetworkCase, Step
from seqnorm_monai.benchmarking.environment import available_bytes
from seqnorm_monai.benchmarking.memory import measure_added_bytes
from seqnorm_monai.benchmarking.timing import (
    calls_for,
    interleave,
    matrix_multiply_adds,
    matrix_product,
    paired_ratio,
    seconds_of,
    summarise,
)

OURS = "seqnorm"
MATRIX = "matrix product"

COLUMNS = (
    *("subject", "variant", "image_size", "tokens", "hidden", "heads", "batch", "mode", "form", "device", "dtype"),
    *("compiled", "repeats", "seconds_median", "seconds_min", "seconds_max", "seconds_per_image", "times_ours"),
    *("multiply_adds", "matrix_gflops", "share_of_matrix_rate", "added_bytes", "kept_bytes_formula"),
    *("inference_peak_bytes_formula", "parameters", "skipped"),
    *("hardware", "cores", "threads", "torch", "monai", "seqnorm_monai", "commit"),
)

Row = dict[str, str]


@dataclass(frozen=True)
class RunSettings:
    """How a cell is run.

    repeats: rounds. warm_up: steps before them, of each form. max_seconds: of one step; what takes longer is skipped.
    memory: whether the peak memory is measured, each form in a process of its own, after the clock stopped.
    """

    repeats: int
    warm_up: int
    max_seconds: float
    memory: bool


def gflops(multiply_adds: int, seconds: float) -> float:
    """Thousand million operations a second; a multiply-add is two."""
    return 2 * multiply_adds / seconds / 1e9


def matrix_rate(device: str, dtype: str) -> float:
    """The machine's rate in multiply-adds a second, the best of three products after one to warm up."""
    step = matrix_product(device, dtype)
    step()
    return matrix_multiply_adds(device) / min(seconds_of(step, device) for _ in range(3))


def reason_to_skip(case: Case, *, rate: float, max_seconds: float, free: int | None) -> str:
    """Why a case is not even started, by the closed form of its cost; empty if it is.

    rate: multiply-adds a second of the machine, which no step exceeds.
    """
    seconds = case.multiply_adds() / rate
    if seconds > max_seconds:
        return f"one step takes {seconds:.0f} s at the machine's full rate, the limit is {max_seconds:.0f} s"
    needed = case.needed_bytes()
    if free is not None and needed > free:
        return f"needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"
    return ""


def _warm_up(case: Case, step: Step, settings: RunSettings) -> tuple[float, str]:
    """Run the first steps: the seconds of the last, and a reason to leave the case out, or nothing."""
    seconds = 0.0
    try:
        # the first call of a compiled module compiles it
        for _ in range(settings.warm_up + int(case.compiled)):
            seconds = seconds_of(step, case.device)
    except RuntimeError as error:
        # torch has an exception of its own for a full GPU, and a message for a full main memory
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        return 0.0, "out of memory"
    if seconds > settings.max_seconds:
        return seconds, f"one step took {seconds:.0f} s, the limit is {settings.max_seconds:.0f} s"
    return seconds, ""


def _release(device: str) -> None:
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def time_cell(cases: Sequence[Case], settings: RunSettings) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Seconds of each form, and of the matrix product under its own name; and the reasons of those left out.

    The cases differ only in the form.
    """
    device, dtype = cases[0].device, cases[0].dtype
    if cases[0].compiled:
        # what earlier cells compiled counts against the number of graphs that torch makes of one function
        torch.compiler.reset()
    rate, free = matrix_rate(device, dtype), available_bytes(device)
    steps: dict[str, Step] = {}
    calls: dict[str, int] = {MATRIX: 1}
    skipped: dict[str, str] = {}
    for case in cases:
        reason = reason_to_skip(case, rate=rate, max_seconds=settings.max_seconds, free=free)
        if not reason:
            step = case.build()
            seconds, reason = _warm_up(case, step, settings)
            if not reason:
                steps[case.form], calls[case.form] = step, calls_for(seconds)
            # a step holds its weights
            del step
        if reason:
            skipped[case.form] = reason
            _release(device)
    steps[MATRIX] = matrix_product(device, dtype)
    clock = {name: functools.partial(seconds_of, step, device, calls[name]) for name, step in steps.items()}
    return interleave(clock, repeats=settings.repeats), skipped


def case_columns(case: Case) -> Row:
    """The columns that say what was measured, and what the closed forms say of it."""
    values = {name: str(value) for name, value in asdict(case).items() if name in COLUMNS}
    values["subject"] = "network" if isinstance(case, NetworkCase) else "layer"
    if isinstance(case, NetworkCase):
        values |= {"tokens": str(case.size.tokens), "hidden": str(case.size.hidden), "heads": str(case.size.heads)}
    values["multiply_adds"] = str(case.multiply_adds())
    values["parameters"] = str(case.parameters())
    if case.has_closed_memory:
        key = "kept_bytes_formula" if case.mode == "training" else "inference_peak_bytes_formula"
        values[key] = str(case.kept_bytes() if case.mode == "training" else case.peak_bytes())
    return values


def time_columns(case: Case, seconds: dict[str, list[float]]) -> Row:
    """The columns that follow from the clock."""
    timing = summarise(seconds[case.form])
    rate = gflops(matrix_multiply_adds(case.device), summarise(seconds[MATRIX]).median)
    share = gflops(case.multiply_adds(), timing.median) / rate
    columns = {
        "repeats": str(timing.repeats),
        "seconds_median": f"{timing.median:.6g}",
        "seconds_min": f"{timing.minimum:.6g}",
        "seconds_max": f"{timing.maximum:.6g}",
        "seconds_per_image": f"{timing.median / case.batch:.6g}",
        "matrix_gflops": f"{rate:.4g}",
        "share_of_matrix_rate": f"{share:.3g}",
    }
    if OURS in seconds:
        columns["times_ours"] = f"{paired_ratio(seconds[case.form], seconds[OURS]):.4g}"
    return columns


def run_cell(cases: Sequence[Case], settings: RunSettings, environment: Row) -> list[Row]:
    """Rows of :data:`COLUMNS`, one for each case, in their order."""
    seconds, skipped = time_cell(cases, settings)
    _release(cases[0].device)
    rows = []
    for case in cases:
        row = dict.fromkeys(COLUMNS, "") | environment | case_columns(case)
        if case.form in skipped:
            row["skipped"] = skipped[case.form]
        else:
            row |= time_columns(case, seconds)
            if settings.memory:
                # the process makes the weights, pages in the libraries and takes one step, cold
                count, row["skipped"] = measure_added_bytes(
                    case, threads=torch.get_num_threads(), timeout=120 + 5 * settings.max_seconds
                )
                row["added_bytes"] = "" if count is None else str(count)
        rows.append(row)
    return rows
