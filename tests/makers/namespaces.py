"""Commands under limits that only a mount namespace of one's own can set: small disks, small shared memory."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.makers.bundles import environment


@cache
def allowed() -> bool:
    """Whether this user may mount in a namespace of its own; containers and users without rights may not."""
    if os.name != "posix" or not shutil.which("unshare"):
        return False
    trial = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /dev/shm"]
    return subprocess.run(trial, capture_output=True).returncode == 0


def run_with_mounts(script: str, folder: Path) -> tuple[int, str]:
    """Run a shell script in a mount namespace of its own; exit code and output. Skips where that is not allowed."""
    if not allowed():
        pytest.skip("mounts are not allowed here")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    return done.returncode, done.stdout


def small_disk(folder: Path, size: str) -> str:
    """The shell command that puts a disk of this size at a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return f"mount -t tmpfs -o size={size} tmpfs '{folder}'"
