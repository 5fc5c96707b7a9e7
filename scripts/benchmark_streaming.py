"""Memory and time of one image larger than memory: a forward pass or a training step, tokens in memory or on disk.

    python scripts/benchmark_streaming.py --size 32768 --patch 16 --tasks forward --output streaming.csv
    python scripts/benchmark_streaming.py --size 32768 --patch 32 --tasks training --output streaming.csv

Every configuration runs in a process of its own, whose peak of resident memory is read from the operating system
(ru_maxrss; it includes about 0.5 GiB for Python and the libraries). The image is synthetic and made tile by tile. The
row ``ordinary`` is the network's own pass over a small image that fits, to compare the time per token.
"""

from __future__ import annotations

import argparse
import csv
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from seqnorm_monai.benchmarking.environment import git_commit, hardware_name
from seqnorm_monai.networks.vit import SeqNormViT, create_network
from seqnorm_monai.streaming.forward import CHUNK_TOKENS, stream_forward
from seqnorm_monai.streaming.tiles import read_tile
from seqnorm_monai.streaming.training import stream_backward

COLUMNS = (
    "task", "tokens_in", "pixels", "patch", "tokens", "network", "chunk_tokens",
    "seconds", "microseconds_per_token", "peak_gib", "threads", "hardware", "python", "torch", "commit",
)  # fmt: skip
CLASSES = 5


class SyntheticSlide:
    """Blobs of a few sizes in three channels, (size, size, 3) of uint8: any region, made when it is read."""

    def __init__(self, size: int) -> None:
        self.shape = (size, size, 3)

    def read(self, row: int, column: int, height: int, width: int) -> np.ndarray:
        y = np.arange(row, row + height, dtype=np.float32)[:, None]
        x = np.arange(column, column + width, dtype=np.float32)[None]
        channels = []
        for channel in range(3):
            waves = (np.sin(y / 37 + channel) + np.sin(x / 53)) * (np.cos(x / 911) + np.cos(y / 1301 - channel))
            channels.append(waves + ((y * 7919 + x * 104729) % 251) / 125)
        return (np.stack(channels, axis=-1) * 20 + 120).clip(0, 255).astype(np.uint8)


def _prepare(tile: torch.Tensor) -> torch.Tensor:
    return tile.float() / 127.5 - 1


def _whole(size: int, like: torch.Tensor) -> torch.Tensor:
    return read_tile(SyntheticSlide(size), (0, 0), (size, size), prepare=_prepare, like=like)


def _loss(logits: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, torch.zeros(1, dtype=torch.long))


def _ordinary(network: SeqNormViT, size: int, training: bool) -> None:
    if training:
        _loss(network(_whole(size, network.cls_token))).backward()
    else:
        with torch.no_grad():
            network(_whole(size, network.cls_token))


def _streamed(network: SeqNormViT, options: argparse.Namespace, folder: str) -> None:
    store = folder if options.tokens_in == "disk" else None
    shared = {"prepare": _prepare, "chunk_tokens": options.chunk_tokens, "store": store}
    if options.task == "training":
        stream_backward(network, SyntheticSlide(options.size), _loss, **shared)
    else:
        stream_forward(network, SyntheticSlide(options.size), **shared)


def run_one(options: argparse.Namespace) -> None:
    """One configuration in this process; prints seconds and peak memory."""
    torch.manual_seed(0)
    network = create_network(
        options.network, in_channels=3, img_size=1024, patch_size=options.patch, num_classes=CLASSES
    )
    # the first products of a process pay for starting threads
    _ordinary(network, 8 * options.patch, options.task == "training")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        start = time.perf_counter()
        if options.tokens_in == "ordinary":
            _ordinary(network, options.size, options.task == "training")
        else:
            _streamed(network, options, folder)
        seconds = time.perf_counter() - start
    # kilobytes on Linux, bytes on macOS
    unit = 2**30 if sys.platform == "darwin" else 2**20
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def measure(options: argparse.Namespace, task: str, tokens_in: str, size: int) -> dict[str, object]:
    """A row of the table, from a process of its own."""
    arguments = [
        f"--{name}={getattr(options, name)}" for name in ("patch", "network", "chunk_tokens", "folder", "threads")
    ]
    command = [sys.executable, __file__, f"--task={task}", f"--tokens_in={tokens_in}", f"--size={size}", *arguments]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    seconds, peak = map(float, printed.split())
    tokens = (size // options.patch) ** 2
    return {
        "task": task, "tokens_in": tokens_in, "pixels": size, "patch": options.patch, "tokens": tokens,
        "network": options.network, "chunk_tokens": options.chunk_tokens, "seconds": float(f"{seconds:.4g}"),
        "microseconds_per_token": round(seconds / tokens * 1e6, 1), "peak_gib": round(peak, 2),
        "threads": options.threads, "hardware": hardware_name("cpu"), "python": platform.python_version(),
        "torch": torch.__version__, "commit": git_commit(),
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=8192, help="pixels of an edge of the square image")
    parser.add_argument("--ordinary_size", type=int, default=2048, help="the same, of the image that fits")
    parser.add_argument("--patch", type=int, default=16)
    parser.add_argument("--network", default="tiny")
    parser.add_argument("--chunk_tokens", type=int, default=CHUNK_TOKENS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tasks", nargs="+", choices=("forward", "training"), default=["forward", "training"])
    parser.add_argument(
        "--kinds", nargs="+", choices=("ordinary", "memory", "disk"), default=["ordinary", "memory", "disk"]
    )
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where token files lie while they are needed")
    parser.add_argument("--output", help="CSV file; rows are appended")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--tokens_in", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    if options.task:
        run_one(options)
        return
    for task in options.tasks:
        for kind in options.kinds:
            row = measure(options, task, kind, options.ordinary_size if kind == "ordinary" else options.size)
            print(", ".join(f"{name} {row[name]}" for name in COLUMNS), flush=True)
            if options.output:
                _append(Path(options.output), row)


def _append(path: Path, row: dict[str, object]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
