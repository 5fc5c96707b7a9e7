"""Whether what a training writes has room, before it starts."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from seqnorm_monai.data.machine_errors import MachineError

# A checkpoint holds the weights and AdamW's two moments; while it is replaced, the old one stands beside the new.
_CHECKPOINT, _MODEL = 2 * 3, 2
# history, TensorBoard's files, file systems' own needs
_REST = 8 * 2**20


def training_bytes(network: nn.Module) -> tuple[int, int]:
    """What the folder of the checkpoint and that of the model need at most."""
    weights = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    return _CHECKPOINT * weights + _REST, _MODEL * weights + _REST


def cache_bytes(description: Mapping[str, Any], count: int, cache_dir: str | None) -> int:
    """What decoded images (float32) of the described size need in `cache_dir` beside what is there; 0 without one."""
    if cache_dir is None:
        return 0
    there = sum(path.stat().st_size for path in Path(cache_dir).glob("*.pt")) if Path(cache_dir).is_dir() else 0
    return max(0, count * item_bytes(description) - there)


def item_bytes(description: Mapping[str, Any]) -> int:
    """The size of one decoded and resized image in float32."""
    size, dims = description["image_size"], description["spatial_dims"]
    axes = [size] * dims if isinstance(size, int) else list(size)
    return 4 * int(description["in_channels"]) * math.prod(axes)


def require_room(needs: Mapping[str, int]) -> None:
    """Refuse folders, which need not exist yet, whose disks have less free space than is needed.

    Raises:
        MachineError: with the folder, what is free and what is needed there.
    """
    disks: dict[int, list[str]] = {}
    for folder in needs:
        disks.setdefault(os.stat(_existing(folder)).st_dev, []).append(folder)
    for folders in disks.values():
        needed, free = sum(needs[folder] for folder in folders), free_bytes(folders[0])
        if free < needed:
            raise MachineError(
                f"{' and '.join(folders)}: the disk has {megabytes(free)} left, and the training needs about "
                f"{megabytes(needed)} there; free space, or give folders on another disk"
            )


def free_bytes(folder: str) -> int:
    """What the user may still write where the folder is, or will be."""
    return shutil.disk_usage(_existing(folder)).free


def megabytes(count: float) -> str:
    """A number of bytes as people read it, 1 MB = 10^6 bytes."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _existing(folder: str) -> Path:
    path = Path(folder).absolute()
    return next(one for one in (path, *path.parents) if one.exists())
