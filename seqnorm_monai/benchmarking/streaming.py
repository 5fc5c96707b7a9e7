"""Time and peak memory of one image larger than memory, each configuration in a process of its own.

    python -m seqnorm_monai.benchmarking.streaming CASE_AS_JSON

prints the seconds of one forward pass or training step, and the most bytes that were resident in the process. The image
is synthetic and made tile by tile.
"""

from __future__ import annotations

import csv
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seqnorm_monai.benchmarking.environment import describe_environment
from seqnorm_monai.benchmarking.memory import peak_resident_bytes
from seqnorm_monai.benchmarking.tables import markdown
from seqnorm_monai.networks.vit import SeqNormViT, create_network
from seqnorm_monai.streaming.forward import stream_forward
from seqnorm_monai.streaming.tiles import read_tile
from seqnorm_monai.streaming.training import stream_backward

COLUMNS = (
    *("task", "tokens_in", "pixels", "patch", "tokens", "network", "chunk_tokens", "seconds"),
    *("microseconds_per_token", "peak_gib", "threads", "hardware", "python", "torch", "commit"),
)
TASKS = ("forward", "training")
# the network's own pass over an image that fits; tokens in memory; tokens in files
KINDS = ("ordinary", "memory", "disk")
CLASSES = 5

Row = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class StreamingCase:
    """One configuration.

    task: of TASKS. tokens_in: of KINDS. pixels: an edge of the square image. network: a named size. folder: where the
    token files lie while they are needed.
    """

    task: str
    tokens_in: str
    pixels: int
    patch: int
    network: str
    chunk_tokens: int
    threads: int
    folder: str

    @property
    def tokens(self) -> int:
        """The class token is not counted."""
        return (self.pixels // self.patch) ** 2


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


def _prepare(tile: Tensor) -> Tensor:
    return tile.float() / 127.5 - 1


def _loss(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, torch.zeros(1, dtype=torch.long))


def _ordinary(network: SeqNormViT, size: int, task: str) -> None:
    whole = read_tile(SyntheticSlide(size), (0, 0), (size, size), prepare=_prepare, like=network.cls_token)
    if task == "training":
        _loss(network(whole)).backward()
    else:
        with torch.no_grad():
            network(whole)


def _streamed(network: SeqNormViT, case: StreamingCase, folder: str) -> None:
    store = folder if case.tokens_in == "disk" else None
    shared = {"prepare": _prepare, "chunk_tokens": case.chunk_tokens, "store": store}
    if case.task == "training":
        stream_backward(network, SyntheticSlide(case.pixels), _loss, **shared)
    else:
        stream_forward(network, SyntheticSlide(case.pixels), **shared)


def run_case(case: StreamingCase) -> float:
    """Seconds of one configuration, in this process."""
    torch.manual_seed(0)
    network = create_network(case.network, in_channels=3, img_size=1024, patch_size=case.patch, num_classes=CLASSES)
    # the first products of a process pay for starting threads
    _ordinary(network, 8 * case.patch, case.task)
    with tempfile.TemporaryDirectory(dir=case.folder) as folder:
        start = time.perf_counter()
        if case.tokens_in == "ordinary":
            _ordinary(network, case.pixels, case.task)
        else:
            _streamed(network, case, folder)
        return time.perf_counter() - start


def measure(case: StreamingCase) -> Row:
    """A row of :data:`COLUMNS`, measured in a process of its own.

    Raises:
        subprocess.CalledProcessError: if the process fails; its own message is on stderr.
    """
    command = [sys.executable, "-m", "seqnorm_monai.benchmarking.streaming", json.dumps(asdict(case))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    row = {
        **describe_environment("cpu"),
        **asdict(case),
        "tokens": case.tokens,
        "seconds": float(f"{found['seconds']:.4g}"),
        "microseconds_per_token": round(found["seconds"] / case.tokens * 1e6, 1),
        "peak_gib": round(found["peak_bytes"] / 2**30, 2),
        "python": platform.python_version(),
    }
    return {name: str(row[name]) for name in COLUMNS}


def check_columns(path: Path) -> None:
    """Refuse to append to a file of another kind, before hours are spent on measuring.

    Raises:
        ValueError: if the file exists and has other columns than :data:`COLUMNS`.
    """
    if path.exists():
        with path.open(encoding="utf-8", newline="") as stream:
            header = next(csv.reader(stream), [])
        if header != list(COLUMNS):
            raise ValueError(f"{path} is not a table of this benchmark, its columns are {header}: choose another file")


def append_row(path: Path, row: Row) -> None:
    """Add a row to a CSV file. It grows over several runs, because the tasks are measured at different sizes."""
    is_new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def _cells(row: Row) -> tuple[str, ...]:
    image = f"{int(row['pixels']):,} px, patch {row['patch']}"
    cost = (f"{float(row['microseconds_per_token']):.0f} us", f"{row['peak_gib']} GiB")
    return (row["task"], row["tokens_in"], image, f"{int(row['tokens']):,}", *cost)


def markdown_table(rows: Sequence[Row]) -> str:
    """One line for each configuration: microseconds for each token, and the most memory that was resident."""
    return markdown(
        ("task", "tokens lie in", "image", "tokens", "time per token", "peak resident memory"), map(_cells, rows)
    )


def main(argv: Sequence[str] | None = None) -> int:
    (text,) = sys.argv[1:] if argv is None else argv
    case = StreamingCase(**json.loads(text))
    torch.set_num_threads(case.threads)
    seconds = run_case(case)
    print(json.dumps({"seconds": seconds, "peak_bytes": peak_resident_bytes()}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
