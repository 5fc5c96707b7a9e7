"""Thousands of damaged files: each is refused by name, or gives what it says; none crashes, hangs, warns or logs.

Several hundred cases run by default. ``SEQNORM_FUZZ_CASES=20000 pytest tests/images/dicom/fuzz/test_fuzz.py`` runs that
many, and ``SEQNORM_FUZZ_FIRST`` (0) is the number of the first. A case depends on its number alone: one that failed is
repeated by ``python -m tests.images.dicom.fuzz.cases NUMBER 1``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.makers.bundles import ROOT, environment

CASES = int(os.environ.get("SEQNORM_FUZZ_CASES", "800"))
FIRST = int(os.environ.get("SEQNORM_FUZZ_FIRST", "0"))
# The decoders are C libraries: what they do to their process must not end the tests.
PER_PROCESS = 1000
SECONDS_PER_PROCESS = 600


def test_damaged_files() -> None:
    outcomes: dict[str, int] = {}
    for first in range(FIRST, FIRST + CASES, PER_PROCESS):
        count = min(PER_PROCESS, FIRST + CASES - first)
        for outcome, number in _run(first, count).items():
            outcomes[outcome] = outcomes.get(outcome, 0) + number
    assert sum(outcomes.values()) == CASES
    # Both ends are reached: neither is everything refused, nor is every damage overlooked.
    assert outcomes["refused"] > CASES / 5
    assert outcomes["value of the original"] > CASES / 20
    assert outcomes["value"] > CASES / 50


def _run(first: int, count: int) -> dict[str, int]:
    """Outcome -> number of cases, by a process of its own."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.images.dicom.fuzz.cases", str(first), str(count)],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=SECONDS_PER_PROCESS,
        )
    except subprocess.TimeoutExpired as error:
        last = (error.stdout or b"").decode().split()[-1:]
        raise AssertionError(f"case {last} did not end") from None
    lines = done.stdout.split("\n")
    assert done.returncode == 0, f"case {lines[-2]}: exit code {done.returncode}\n{done.stderr[-3000:]}"
    return json.loads(lines[-2])
