"""Images split over processes: the same logits and gradients as one process, and few bytes between them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.makers.bundles import ROOT
from tests.streaming.parallel_worker import HIDDEN, LAYERS, WORLD

SECONDS = 150


def run_workers(folder: Path) -> list[dict]:
    """What each process found. None outlives the test, whatever becomes of the others."""
    processes = []
    for rank in range(WORLD):
        with (folder / f"error{rank}").open("w") as errors:
            command = [sys.executable, "-m", "tests.streaming.parallel_worker", str(rank), str(folder)]
            processes.append(subprocess.Popen(command, cwd=ROOT, stderr=errors))
    deadline = time.monotonic() + SECONDS
    try:
        for rank, process in enumerate(processes):
            code = process.wait(timeout=max(1.0, deadline - time.monotonic()))
            assert code == 0, (folder / f"error{rank}").read_text()
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [json.loads((folder / f"found{rank}.json").read_text()) for rank in range(WORLD)]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    return run_workers(tmp_path_factory.mktemp("parallel"))


@pytest.mark.parametrize(("sharing", "ranks"), [("two", 4), ("three", 3)])
def test_equals_one_process(found: list[dict], sharing: str, ranks: int) -> None:
    for rank in found[:ranks]:
        assert len(rank[sharing]) == 9
        for name, errors in rank[sharing].items():
            tolerance = 1e-5 if "float32" in name else 1e-10
            assert errors["logits"] <= tolerance, name
            assert errors["gradients"] <= tolerance, name


def test_bytes_do_not_depend_on_the_number_of_tokens(found: list[dict]) -> None:
    """C and C^2 numbers of 8 bytes a layer, forward and backward."""
    for rank in found:
        few, many = rank["bytes"]
        assert few == many
        assert sorted(few) == sorted(2 * LAYERS * [8 * HIDDEN, 8 * HIDDEN**2])


def test_data_parallel_groups_with_an_image_each(found: list[dict]) -> None:
    for rank in found:
        assert rank["ddp"]["logits"] <= 1e-10
        assert rank["ddp"]["gradients"] <= 1e-10


def test_a_forgotten_sum_is_seen(found: list[dict]) -> None:
    for rank in found:
        assert rank["planted"]["logits"] <= 1e-10
        assert rank["planted"]["gradients"] > 1e-3


def test_all_processes_refuse_together(found: list[dict]) -> None:
    for rank in found:
        assert len(rank["refusals"]) == 3
        assert all("differ only in the first spatial axis" in message for message in rank["refusals"])
