"""Memory and time of one image larger than memory: a forward pass or a training step, tokens in memory or on disk.

    python scripts/benchmark_streaming.py --size 32768 --patch 16 --tasks forward --output streaming.csv
    python scripts/benchmark_streaming.py --size 32768 --patch 32 --tasks training --output streaming.csv

Every configuration runs in a process of its own. Its peak of resident memory includes about 0.5 GiB for Python and the
libraries. The row ``ordinary`` is the network's own pass over a small image that fits, to compare the time per token.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from seqnorm_monai.benchmarking.streaming import KINDS, TASKS, StreamingCase, append_row, check_columns, measure
from seqnorm_monai.networks.vit import VARIANTS
from seqnorm_monai.streaming.forward import CHUNK_TOKENS


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=8192, help="pixels of an edge of the square image")
    parser.add_argument("--ordinary_size", type=int, default=2048, help="the same, of the image that fits")
    parser.add_argument("--patch", type=int, default=16)
    parser.add_argument("--network", choices=tuple(VARIANTS), default="tiny")
    parser.add_argument("--chunk_tokens", type=int, default=CHUNK_TOKENS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where token files lie while they are needed")
    parser.add_argument("--output", type=Path, metavar="CSV", help="rows are appended")
    options = vars(parser.parse_args(argv))
    size, ordinary_size, output = (options.pop(name) for name in ("size", "ordinary_size", "output"))
    if output:
        check_columns(output)
    for task, kind in itertools.product(options.pop("tasks"), options.pop("kinds")):
        pixels = ordinary_size if kind == "ordinary" else size
        row = measure(StreamingCase(task=task, tokens_in=kind, pixels=pixels, **options))
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        if output:
            append_row(output, row)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
