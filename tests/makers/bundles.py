"""What tests of bundles share: where they are, a copy to run in, and the command line as a user types it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from seqnorm_monai.data import load_class_names

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.parent.parent for path in (ROOT / "bundles").glob("*/configs/metadata.json"))
CHEST = ROOT / "bundles" / "chest_radiograph_classification"
# development data that users do not have
SHARED = ROOT.parent / "shared"


def config(bundle: Path, name: str) -> dict[str, Any]:
    """One configuration of a bundle."""
    return json.loads((bundle / "configs" / f"{name}.json").read_text())


def class_names(bundle: Path) -> list[str]:
    """The classes of a bundle's sample."""
    return load_class_names(bundle / "sample_data" / "datalist.json")


def copy_bundle(bundle: Path, folder: Path) -> Path:
    """A copy without what earlier runs left behind."""
    return Path(shutil.copytree(bundle, folder / bundle.name, ignore=shutil.ignore_patterns("*.pt", "output", ".lock")))


def environment() -> dict[str, str]:
    """This interpreter first on the path, one thread: as many processes as cores may be testing."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


def run_command(command: str | list[str], folder: Path, *, code: int = 0) -> str:
    """Run a command line in a folder; its output, once it ended with the expected exit code."""
    done = subprocess.run(
        command,
        shell=isinstance(command, str),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    assert done.returncode == code, f"{command}: exit code {done.returncode}\n{done.stdout[-6000:]}"
    return done.stdout


def bundle_command(action: str, *configs: str, **options: object) -> list[str]:
    """``python -m monai.bundle run ACTION`` inside a bundle; ``__`` in an option's name stands for ``#``."""
    files = [f"configs/{name}.json" for name in configs]
    command = [sys.executable, "-m", "monai.bundle", "run", action]
    command += ["--config_file", files[0] if len(files) == 1 else str(files)]
    for name, value in options.items():
        command += [f"--{name.replace('__', '#')}", str(value)]
    return command
