"""Peak memory of one step, measured in a process of its own.

    python -m seqnorm_monai.benchmarking.memory CASE_AS_JSON THREADS

prints the bytes that the step added, at its most, to what the process held before it: the weights and the input are
before it; gradients, the optimiser's state and everything in between are not. On a CPU these are resident pages, on
CUDA bytes of torch's allocator.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from seqnorm_monai.benchmarking.cases import Case, case_from_json

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# glibc would keep freed arrays of up to 32 MiB for itself, and they would count as in use: arrays from 128 KiB up go
# back to the system at once. A process with glibc's own setting holds 10 to 30 % more.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**17)}


def resident_bytes() -> int:
    """Resident now (Linux); elsewhere, the most so far."""
    return _status("VmRSS") if STATUS.exists() else peak_resident_bytes()


def peak_resident_bytes() -> int:
    """The most that was resident since :func:`reset_peak`; without /proc since the process began.

    Linux's ``ru_maxrss`` would not do: a process inherits it from the one that started it.
    """
    if STATUS.exists():
        return _status("VmHWM")
    kilobyte = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte


def _status(name: str) -> int:
    return 1024 * int(re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.M).group(1))


def reset_peak() -> None:
    """Let the peak begin with what is resident now, where the system can (Linux: 5 into clear_refs)."""
    if CLEAR.exists():
        CLEAR.write_text("5")


def added_bytes(case: Case) -> int:
    """The most that one step of the case adds, in this process.

    A compiled case is measured at its second step, because the first compiles; AdamW has its moments by then.
    """
    # code is loaded, and libraries take their working memory, with the first step of a kind
    case.small().build()()
    step = case.build()
    if case.compiled:
        step()
    if case.device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    reset_peak()
    before = resident_bytes()
    step()
    return peak_resident_bytes() - before


def measure_added_bytes(case: Case, *, threads: int, timeout: float) -> tuple[int | None, str]:
    """:func:`added_bytes` in a process of its own, or None and the reason why.

    timeout: seconds for the whole process.
    """
    command = [sys.executable, "-m", "seqnorm_monai.benchmarking.memory", case.to_json(), str(threads)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env={**os.environ, **ALLOCATOR})
    except subprocess.TimeoutExpired:
        return None, f"memory: no result after {timeout:.0f} s"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return None, f"memory: the process ended with {done.returncode} ({last})"
    return json.loads(done.stdout.splitlines()[-1])["added_bytes"], ""


def main(argv: Sequence[str] | None = None) -> int:
    case, threads = sys.argv[1:] if argv is None else argv
    torch.set_num_threads(int(threads))
    print(json.dumps({"added_bytes": added_bytes(case_from_json(case))}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
