"""What the machine has: processors, memory, a GPU."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from seqnorm_monai.preflight.disk import megabytes


@dataclass(frozen=True)
class Machine:
    """Processors that this process may use, bytes of memory (0 where the system does not tell), and the GPU's."""

    processors: int
    memory: int
    gpu: str
    gpu_memory: int

    def __str__(self) -> str:
        gpu = f"{self.gpu} with {megabytes(self.gpu_memory)}" if self.gpu else "no GPU that torch can use"
        memory = megabytes(self.memory) if self.memory else "unknown"
        return f"{self.processors} processors, memory {memory}, {gpu}"


def this_machine() -> Machine:
    """Ask torch and the system; within a container its limit of memory counts."""
    affinity = getattr(os, "sched_getaffinity", None)
    processors = len(affinity(0)) if affinity else os.cpu_count() or 1
    if not torch.cuda.is_available():
        return Machine(processors, _memory(), "", 0)
    properties = torch.cuda.get_device_properties(0)
    return Machine(processors, _memory(), properties.name, properties.total_memory)


def _memory() -> int:
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else ""
    return min(whole, int(text)) if text.isdigit() else whole
