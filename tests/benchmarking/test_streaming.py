"""The benchmark of streaming runs, each configuration in a process of its own, and writes its table."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from tests.makers.bundles import ROOT


@pytest.mark.slow
def test_a_row_for_every_configuration(tmp_path: Path) -> None:
    table = tmp_path / "streaming.csv"
    sizes = ["--size", "320", "--ordinary_size", "64", "--patch", "32", "--chunk_tokens", "47"]
    command = [
        sys.executable,
        "scripts/benchmark_streaming.py",
        *sizes,
        "--output",
        str(table),
        "--folder",
        str(tmp_path),
    ]
    subprocess.run([*command, "--tasks", "training", "--kinds", "ordinary", "disk"], cwd=ROOT, check=True, timeout=300)
    with table.open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["tokens_in"], row["tokens"]) for row in rows] == [("ordinary", "4"), ("disk", "100")]
    assert all(0 < float(row["peak_gib"]) < 4 and float(row["seconds"]) > 0 for row in rows)
    assert list(tmp_path.iterdir()) == [table]
