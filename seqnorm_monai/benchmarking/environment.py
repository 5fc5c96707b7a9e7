"""Where a number was measured: hardware, threads, versions, commit. No date and no name of the machine."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from seqnorm_monai.version import __version__

CPUINFO = Path("/proc/cpuinfo")


def hardware_name(device: str) -> str:
    """The GPU's name, or the processor's."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    if CPUINFO.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", CPUINFO.read_text(), re.M)
        if found:
            return found.group(1).strip()
    return platform.processor() or platform.machine()


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def git_commit() -> str:
    """The commit of the sources, with ``-dirty`` if tracked files differ from it; ``unknown`` outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def describe_environment(device: str) -> dict[str, str]:
    """Columns that every row of a result carries."""
    return {
        "hardware": hardware_name(device),
        "cores": str(core_count()),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "monai": version("monai"),
        "seqnorm_monai": __version__,
        "commit": git_commit(),
    }


def available_bytes(device: str) -> int | None:
    """Memory that is free now, or None where the system does not tell."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    return 1024 * int(re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(), re.M).group(1))
