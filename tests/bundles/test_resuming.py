"""A training of the bundle that is killed at any moment and resumed ends as one that nobody stopped, bit for bit.

python -m tests.bundles.test_resuming 20     # as many trainings, each killed one to four times
"""

from __future__ import annotations

import csv
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.makers.bundles import CHEST, bundle_command, copy_bundle, environment, run_command

SMALL = {"image_size": 32, "network_def__num_layers": 1, "network_def__hidden_size": 24, "network_def__mlp_dim": 24}
SMALL |= {"batch_size": 3, "warmup_epochs": 2}
RESULT = ("models/model.pt", "output/training/checkpoint.pt")


def small_bundle(folder: Path) -> Path:
    """With 13 images to train with and 7 to validate with, of both kinds for some class."""
    bundle = copy_bundle(CHEST, folder)
    path = bundle / "sample_data/datalist.json"
    lists = json.loads(path.read_text())
    lists["training"], lists["validation"] = lists["training"][:13], lists["validation"][:7]
    path.write_text(json.dumps(lists))
    return bundle


def train(bundle: Path, **options: object) -> str:
    return run_command(bundle_command("training", "train", **SMALL, **options), bundle)


def start(bundle: Path, **options: object) -> subprocess.Popen:
    command = bundle_command("training", "train", **SMALL, **options)
    with (bundle / "log").open("a") as log:
        return subprocess.Popen(command, cwd=bundle, env=environment(), stdout=log, stderr=log)


def rows(bundle: Path) -> list[dict[str, str]]:
    """The history, without the time that an epoch took."""
    with (bundle / "output/training/history.csv").open(newline="") as stream:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(stream)]


def assert_same(one: Any, other: Any, where: str = "") -> None:  # noqa: ANN401
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert list(one) == list(other), where
        for name in one:
            assert_same(one[name], other[name], f"{where}/{name}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for number, (left, right) in enumerate(zip(one, other)):
            assert_same(left, right, f"{where}/{number}")
    else:
        assert one == other, where


def assert_equal_end(whole: Path, parts: Path, epochs: int) -> None:
    for name in RESULT:
        assert_same(*(torch.load(bundle / name, weights_only=True) for bundle in (parts, whole)), name)
    assert [int(row["epoch"]) for row in rows(parts)] == list(range(1, epochs + 1))
    assert rows(parts) == rows(whole)
    names = {path.relative_to(parts) for path in parts.rglob("*") if path.is_file() and "tensorboard" not in path.parts}
    expected = {path.relative_to(whole) for path in whole.rglob("*") if path.is_file()}
    assert names - {Path("log")} <= expected, "left over"


def killed_and_resumed(bundle: Path, random_numbers: random.Random, seconds: float, **options: object) -> list[float]:
    """Start a training, kill it one to four times after parts of `seconds`, and let it end; the times of the kills."""
    kills = sorted(random_numbers.uniform(0.0, seconds) for _ in range(random_numbers.randint(1, 4)))
    for number, moment in enumerate(kills):
        # a kill before the lock is taken leaves nothing to resume
        began = (bundle / "output/training").exists()
        process = start(bundle, resume=began, **options)
        time.sleep(moment - (kills[number - 1] if number else 0.0) + 0.3 * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
    train(bundle, resume=(bundle / "output/training").exists(), **options)
    return kills


def test_resumed_at_an_epoch_with_other_workers_equals_an_unbroken_training(tmp_path: Path) -> None:
    """Killed inside an epoch; resumed with another number of workers, and once more when all is done."""
    whole, parts = small_bundle(tmp_path / "whole"), small_bundle(tmp_path / "parts")
    train(whole, max_epochs=4)
    process = start(parts, max_epochs=4, num_workers=2)
    while not (parts / "output/training/checkpoint.pt").exists():
        assert process.poll() is None, (parts / "log").read_text()[-4000:]
        time.sleep(0.01)
    # the workers of this run are alive still when the next one starts
    process.send_signal(signal.SIGKILL)
    process.wait()
    train(parts, max_epochs=4, resume=True)
    assert_equal_end(whole, parts, 4)
    assert "the training already ended after 4 epochs" in train(parts, max_epochs=4, resume=True)
    assert_equal_end(whole, parts, 4)


def test_a_run_killed_before_its_first_epoch_can_be_resumed(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path)
    lock = bundle / "output/training/.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    assert "the training begins at the beginning" in train(bundle, max_epochs=1, resume=True)
    assert not lock.exists()


def test_a_second_training_in_the_folder_is_refused(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path)
    process = start(bundle, max_epochs=500)
    while not (bundle / "output/training/.lock").exists():
        assert process.poll() is None, (bundle / "log").read_text()[-4000:]
        time.sleep(0.05)
    options = {**SMALL, "max_epochs": 2}
    output = run_command(bundle_command("training", "train", **options), bundle, code=1)
    process.kill()
    process.wait()
    assert f"another run (process {process.pid} on " in output
    assert "wait for its end, or give another output_dir and ckpt_dir" in output


VARIANTS: list[dict[str, object]] = [
    {},
    {"num_workers": 2},
    {"num_workers": 2, "train__dataloader__persistent_workers": True},
    {"max_epochs": 11, "num_workers": 2},
]


def many(count: int, folder: Path, seed: int) -> int:
    """How many of `count` trainings of 9 (or 11) epochs ended like the unbroken one."""
    random_numbers = random.Random(seed)
    wholes: dict[int, tuple[Path, float]] = {}
    equal = 0
    for number in range(count):
        options = {"max_epochs": 9, **VARIANTS[number % len(VARIANTS)]}
        epochs = options["max_epochs"]
        if epochs not in wholes:
            whole, began = small_bundle(folder / f"whole{epochs}"), time.monotonic()
            train(whole, max_epochs=epochs)
            wholes[epochs] = whole, time.monotonic() - began
        whole, seconds = wholes[epochs]
        parts = small_bundle(folder / f"parts{number}")
        kills = killed_and_resumed(parts, random_numbers, seconds, **options)
        try:
            assert_equal_end(whole, parts, epochs)
            equal += 1
            verdict = "equal"
        except AssertionError as error:
            verdict = f"DIFFERS {error}"
        print(number, options, [round(kill, 1) for kill in kills], verdict, flush=True)
    print(f"{equal} of {count} bit for bit", flush=True)
    return equal


@pytest.mark.slow
def test_trainings_killed_at_random_moments(tmp_path: Path) -> None:
    assert many(4, tmp_path, seed=7) == 4


def test_resumed_with_more_epochs_follows_the_formula(tmp_path: Path) -> None:
    """Rate of the last step of each epoch: that of the schedule of 4 epochs, from the third one on."""
    parts, whole = small_bundle(tmp_path / "parts"), small_bundle(tmp_path / "whole")
    train(parts, max_epochs=2)
    train(parts, max_epochs=4, resume=True)
    train(whole, max_epochs=4)
    assert [row["learning_rate"] for row in rows(parts)][2:] == [row["learning_rate"] for row in rows(whole)][2:]
    assert [int(row["epoch"]) for row in rows(parts)] == [1, 2, 3, 4]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        wanted = int(sys.argv[1])
        raise SystemExit(many(wanted, Path(folder), seed=int(sys.argv[2]) if len(sys.argv) > 2 else 1) != wanted)
