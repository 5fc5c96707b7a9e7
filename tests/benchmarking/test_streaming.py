"""The benchmark of streaming runs, each configuration in a process of its own, and writes its table."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from seqnorm_monai.benchmarking import streaming
from seqnorm_monai.benchmarking.streaming import COLUMNS, KINDS, TASKS, StreamingCase, SyntheticSlide, append_row
from tests.makers.bundles import ROOT

pytestmark = pytest.mark.usefixtures("one_thread")


def case_in(folder: Path, task: str = "forward", tokens_in: str = "disk") -> StreamingCase:
    sizes = {"pixels": 96, "patch": 32, "network": "tiny", "chunk_tokens": 5, "threads": 1}
    return StreamingCase(task=task, tokens_in=tokens_in, folder=str(folder), **sizes)


def test_regions_of_the_slide_are_those_of_the_whole() -> None:
    slide = SyntheticSlide(61)
    whole = slide.read(0, 0, 61, 61)
    assert whole.shape == slide.shape and whole.dtype == np.uint8 and len(np.unique(whole)) > 50
    assert np.array_equal(slide.read(7, 13, 29, 31), whole[7:36, 13:44])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_process_prints_its_result(tmp_path: Path, task: str, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert streaming.main([json.dumps(asdict(case_in(tmp_path, task, kind)))]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["seconds"] > 0 and found["peak_bytes"] > 2**27
    assert list(tmp_path.iterdir()) == []


def test_a_row_of_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = "a warning\n" + json.dumps({"seconds": 12.34567, "peak_bytes": 3 * 2**29})
    done = subprocess.CompletedProcess([], 0, stdout=printed)
    monkeypatch.setattr(streaming.subprocess, "run", lambda *command, **options: done)
    monkeypatch.setattr(streaming, "describe_environment", lambda device: dict.fromkeys(COLUMNS, device))
    row = streaming.measure(case_in(tmp_path))
    assert tuple(row) == COLUMNS
    assert list(row.values())[:10] == ["forward", "disk", "96", "32", "9", "tiny", "5", "12.35", "1371741.1", "1.5"]
    assert row["threads"] == "1" and row["hardware"] == "cpu"


def test_rows_of_several_runs_share_a_file_and_another_table_is_refused(tmp_path: Path) -> None:
    table, other = tmp_path / "streaming.csv", tmp_path / "other.csv"
    rows = [dict.fromkeys(COLUMNS, text) for text in ("3", "5")]
    for row in rows:
        streaming.check_columns(table)
        append_row(table, row)
    with table.open(newline="") as stream:
        assert list(csv.DictReader(stream)) == rows
    other.write_text("form,seconds\n")
    with pytest.raises(ValueError, match=r"other\.csv is not a table of this benchmark, its columns are \['form'"):
        streaming.check_columns(other)


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
