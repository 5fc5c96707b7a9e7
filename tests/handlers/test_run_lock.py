"""Two runs never share a folder, and a killed one does not keep it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ignite.engine import Engine

from seqnorm_monai import file_locks
from seqnorm_monai.handlers import RunInUseError, RunLock

# Holds a folder, and has a child that lives on, as the workers of a data loader do for some seconds.
HOLD = """
import os, sys, time
from seqnorm_monai.handlers import RunLock
RunLock([sys.argv[1]]).acquire()
if os.fork() == 0:
    time.sleep(60)
print(os.getpid(), flush=True)
time.sleep(60)
"""


@contextmanager
def other_run(folder: Path) -> Iterator[subprocess.Popen]:
    """Another process that holds the folder; its child is killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout.readline().strip() == str(process.pid)
        yield process
    finally:
        # the session is the group of this process and its child
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def test_a_second_run_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "training"
    lock = RunLock([tmp_path / "models", folder])
    with other_run(folder) as process:
        (folder / "mine").touch()
        with pytest.raises(RunInUseError, match=rf"{folder}: another run \(process {process.pid} on .*output_dir"):
            lock.acquire()
        # what it had taken already it gave back
        assert list((tmp_path / "models").iterdir()) == []
        process.kill()
        process.wait()
        (folder / ".history.csv.tmp").touch()
        lock.acquire()
        assert lock.interrupted
        lock.release()
    assert [path.name for path in folder.iterdir()] == ["mine"]
    assert list((tmp_path / "models").iterdir()) == []


def test_held_while_an_engine_runs_and_interrupted_if_it_fails(tmp_path: Path) -> None:
    def step(_engine: Engine, batch: int) -> None:
        assert (tmp_path / ".lock").exists()
        if batch == 3:
            raise RuntimeError("broken")

    engine = Engine(step)
    lock = RunLock([tmp_path])
    lock.attach(engine)
    engine.run([2])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError, match="broken"):
        engine.run([3])
    # the same process may go on
    lock.acquire()
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(file_locks.errno.ENOLCK, "no locks")

    monkeypatch.setattr(file_locks.fcntl, "lockf", refuse)
    lock = RunLock([tmp_path])
    lock.acquire()
    assert "a second run in this folder would not be refused" in caplog.text
    lock.release()


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"give another output_dir and ckpt_dir.*file"):
        RunLock([tmp_path / "file" / "training"]).acquire()
    with pytest.raises(TypeError, match="argument folders must be a list"):
        RunLock(str(tmp_path))
