"""A machine at its limit ends a run with the cause and the cure as its last line; no file is torn, no image blamed."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from seqnorm_monai.handlers import read_model
from tests.bundles.test_runs import SMALL
from tests.makers.bundles import CHEST, bundle_command, copy_bundle, environment, run_command
from tests.makers.namespaces import run_with_mounts, small_disk

pytestmark = pytest.mark.slow


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle after one epoch of a small network, with 24 radiographs to predict."""
    bundle = copy_bundle(CHEST, tmp_path_factory.mktemp("trained"))
    run_command(bundle_command("training", "train", max_epochs=1, **SMALL), bundle)
    (bundle / "few").mkdir()
    for image in sorted((bundle / "sample_data/images").iterdir())[:24]:
        shutil.copy(image, bundle / "few")
    return bundle


def train(**options: object) -> str:
    return shlex.join(bundle_command("training", "train", **{**SMALL, **options}))


def predict(**options: object) -> str:
    return shlex.join(bundle_command("inference", "inference", dataset_dir="few", **options))


def evaluate(**options: object) -> str:
    return shlex.join(bundle_command("evaluate", "train", "evaluate", **options))


def half_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp") or "partial" in path.name]


def assert_whole_or_named(code: int, output: str, results: Path, cause: str) -> None:
    """All 24 predicted, or an end that names the cause; never a good image among the rejected ones."""
    if code == 0:
        assert len(table(results / "predictions.csv")) == 24
        assert table(results / "rejected.csv") == []
        return
    assert cause in output.splitlines()[-1], output[-3000:]
    assert not (results / "rejected.csv").exists()
    assert not (results / "predictions.csv").exists()


def test_shared_memory_of_64_mb(trained: Path, tmp_path: Path) -> None:
    """What containers have unless they are told otherwise."""
    shm = "mount -t tmpfs -o size=64m tmpfs /dev/shm"
    big = {"image_size": 1024, "num_workers": 2, "batch_size": 16}
    bundle = copy_bundle(CHEST, tmp_path)
    training = train(max_epochs=1, **{**SMALL, **big})
    code, output = run_with_mounts(f"{shm} && exec {training}", bundle)
    if code:
        assert "shared memory" in output.splitlines()[-1], output[-3000:]
        assert "num_workers" in output.splitlines()[-1]
    else:
        read_model(bundle / "models/model.pt")
    results = tmp_path / "results"
    code, output = run_with_mounts(f"{shm} && exec {predict(output_dir=results, num_workers=2)}", trained)
    assert_whole_or_named(code, output, results, "shared memory")


@pytest.mark.parametrize(("option", "folder"), [("cache_dir", "cache"), ("output_dir", "out"), ("ckpt_dir", "models")])
def test_too_small_a_disk_is_refused_at_the_start(tmp_path: Path, option: str, folder: str) -> None:
    bundle, target = copy_bundle(CHEST, tmp_path), tmp_path / folder
    script = f"{small_disk(target, '200k')} && exec {train(max_epochs=2, **{option: target})}"
    code, output = run_with_mounts(script, bundle)
    assert code == 1
    assert str(target) in output.splitlines()[-1]
    assert "the disk has 0 MB left" in output.splitlines()[-1]
    assert "epoch 1" not in output


@pytest.mark.parametrize("option", ["output_dir", "ckpt_dir"])
def test_a_disk_that_fills_up_during_a_training(tmp_path: Path, option: str) -> None:
    """The finished epochs are kept, whole, and the training goes on from them once there is space."""
    bundle, target = copy_bundle(CHEST, tmp_path), tmp_path / "disk"
    kept = tmp_path / "kept"
    history = (target if option == "output_dir" else bundle / "output/training") / "history.csv"
    fill = f"while [ ! -f {history} ]; do sleep 0.05; done; head -c 60m /dev/zero > {target}/filler"
    command = train(max_epochs=60, learning_rate=0.002, **{option: target})
    script = f"{small_disk(target, '40m')}; {command} & run=$!; {fill}; wait $run; code=$?; rm {target}/filler; "
    code, output = run_with_mounts(f"{script} cp -a {target} {kept}; exit $code", bundle)
    assert code == 1, output[-2000:]
    last = output.splitlines()[-1]
    assert "No space left on device" in last
    assert "free space on the disk" in last
    assert "the finished epochs are kept: start again with --resume true" in last
    assert str(target) in last
    assert half_files(kept) == []
    done = len(table(kept / "history.csv" if option == "output_dir" else history))
    if option == "output_dir":
        shutil.rmtree(target)
        shutil.copytree(kept, target)
    else:
        read_model(kept / "model.pt")
        (target / ".lock").touch()
    resumed = run_command(f"{train(max_epochs=done + 1, **{option: target})} --resume true", bundle)
    assert f"after epoch {done}" in resumed or f"epoch {done + 1} of {done + 1}" in resumed


@pytest.mark.parametrize("action", ["evaluate", "inference"])
def test_a_full_disk_while_results_are_written(trained: Path, tmp_path: Path, action: str) -> None:
    target, kept = tmp_path / "disk", tmp_path / "kept"
    command = evaluate(output_dir=target) if action == "evaluate" else predict(output_dir=target)
    fill = f"head -c 60m /dev/zero > {target}/filler 2> /dev/null"
    # the lock's file is there already, since an empty file needs a page of the disk, too
    script = f"{small_disk(target, '100k')}; echo x > {target}/.lock; {fill}; {command}; code=$?; "
    code, output = run_with_mounts(f"{script} rm {target}/filler; cp -a {target} {kept}; exit $code", trained)
    assert code == 1, output[-2000:]
    assert "No space left on device" in output.splitlines()[-1]
    assert "free space on the disk" in output.splitlines()[-1]
    # of two small files one may have found room, and is whole then
    if (kept / "metrics.json").exists():
        assert json.loads((kept / "metrics.json").read_text())["classes"]
    assert half_files(kept) == [] or action == "inference"
    assert not (kept / "predictions.csv").exists()
    assert not (kept / "rejected.csv").exists()


def test_64_file_handles(trained: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    done = subprocess.run(
        ["sh", "-c", f"ulimit -n 64; exec {predict(output_dir=results, num_workers=2, batch_size=2)}"],
        cwd=trained,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert_whole_or_named(done.returncode, done.stdout, results, "open files")
    bundle = copy_bundle(CHEST, tmp_path)
    done = subprocess.run(
        ["sh", "-c", f"ulimit -n 64; exec {train(max_epochs=1, num_workers=2)}"],
        cwd=bundle,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        assert "open files" in done.stdout.splitlines()[-1], done.stdout[-3000:]
    else:
        read_model(bundle / "models/model.pt")


def test_a_killed_worker(tmp_path: Path) -> None:
    bundle = copy_bundle(CHEST, tmp_path)
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            bundle_command("training", "train", max_epochs=500, num_workers=2, **SMALL),
            cwd=bundle,
            env=environment(),
            stdout=log,
            stderr=log,
        )
        deadline = time.monotonic() + 120
        while not (bundle / "output/training/history.csv").is_file():
            assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        while process.poll() is None and time.monotonic() < deadline:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            subprocess.run(["kill", "-KILL", *children[-1:]], stderr=subprocess.DEVNULL) if children else None
            time.sleep(0.02)
    assert process.wait(60) == 1
    last = (tmp_path / "log").read_text().splitlines()[-1]
    assert "a worker process died" in last
    assert "use fewer num_workers" in last
    assert "start again with --resume true" in last


def test_a_bundle_that_can_only_be_read(trained: Path, tmp_path: Path) -> None:
    """As on a shared drive: refused by name without folders of one's own, and as good as any with them."""
    read_only = f"mount --bind '{trained}' '{trained}' && mount -o remount,ro,bind '{trained}' && cd '{trained}'"
    for command in (train(max_epochs=1), evaluate(), predict()):
        code, output = run_with_mounts(f"{read_only} && exec {command}", trained)
        last = output.splitlines()[-1]
        assert code == 1
        assert "output/" in last
        assert "nothing can be written there; give another output_dir" in last
        assert "epoch 1" not in output
    out, models = tmp_path / "out", tmp_path / "models"
    commands = [train(max_epochs=1, output_dir=out, ckpt_dir=models)]
    commands += [evaluate(output_dir=out, ckpt_dir=models), predict(output_dir=out, ckpt_dir=models)]
    code, output = run_with_mounts(" && ".join([read_only, *commands]), trained)
    assert code == 0, output[-3000:]
    assert len(table(out / "predictions.csv")) == 24


def test_a_second_run_in_a_folder_in_use(trained: Path, tmp_path: Path) -> None:
    folders = {"output_dir": tmp_path / "o", "ckpt_dir": tmp_path / "m"}
    command = bundle_command("training", "train", max_epochs=500, **folders, **SMALL)
    process = subprocess.Popen(
        command, cwd=trained, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "o/history.csv").is_file():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        last = run_command(command, trained, code=1).splitlines()[-1]
        assert "another run (process" in last
        assert "wait for its end, or give another output_dir and ckpt_dir" in last
        second = predict(output_dir=tmp_path / "o")
        assert "another run (process" in run_command(second, trained, code=1).splitlines()[-1]
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
