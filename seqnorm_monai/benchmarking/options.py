"""What both benchmark scripts share: their options, and the loop over cells that fills the CSV."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from seqnorm_monai.atomic_files import GrowingTable
from seqnorm_monai.benchmarking.cases import DTYPES, Case
from seqnorm_monai.benchmarking.complexity import FORMS
from seqnorm_monai.benchmarking.environment import describe_environment
from seqnorm_monai.benchmarking.runs import COLUMNS, RunSettings, run_cell
from seqnorm_monai.benchmarking.summary import format_table


def create_parser(description: str, *, kinds: Sequence[str]) -> argparse.ArgumentParser:
    """A parser with the options of every benchmark; ``kinds`` are the forms that run if none is named."""
    known = tuple(dict.fromkeys((*FORMS, *kinds)))
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="float32", help="bfloat16: under autocast")
    parser.add_argument("--compile", action="store_true", help="through torch.compile")
    parser.add_argument("--kinds", nargs="+", choices=known, default=list(kinds), metavar="KIND", help=", ".join(known))
    parser.add_argument("--repeats", type=int, default=5, help="rounds; each runs every kind once (default 5)")
    parser.add_argument("--warm-up", type=int, default=1, help="steps of each kind before the rounds (default 1)")
    parser.add_argument(
        "--max-seconds", type=float, default=120.0, help="skip what needs more for a step (default 120)"
    )
    parser.add_argument("--no-memory", action="store_true", help="leave the peak memory out")
    parser.add_argument("--threads", type=int, help="of torch on the CPU (default: torch's)")
    parser.add_argument("--output", required=True, metavar="CSV")
    return parser


def case_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What every case of a run takes from the command line."""
    return {"device": arguments.device, "dtype": arguments.dtype, "compiled": arguments.compile}


def run_benchmark(cells: Iterable[Sequence[Case]], arguments: argparse.Namespace) -> int:
    """Run the cells one after the other; print a table of each, and write its rows before the next begins.

    The file grows under the name ``NAME.partial.csv`` and has its own name when the last cell is done.
    """
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda: torch finds no CUDA device")
    if arguments.repeats < 1 or arguments.warm_up < 1:
        raise SystemExit("--repeats and --warm-up must be at least 1")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.compile:
        # the kinds of a cell share one forward function, and past torch's limit of 8 graphs it would run eagerly
        torch._dynamo.config.recompile_limit = 64
    settings = RunSettings(
        repeats=arguments.repeats,
        warm_up=arguments.warm_up,
        max_seconds=arguments.max_seconds,
        memory=not arguments.no_memory,
    )
    environment = describe_environment(arguments.device)
    print(", ".join(f"{name} {value}" for name, value in environment.items()), flush=True)
    table = GrowingTable(Path(arguments.output), COLUMNS)
    table.start()
    for cases in cells:
        rows = run_cell(cases, settings, environment)
        table.append([row[column] for column in COLUMNS] for row in rows)
        print(f"\n{format_table(rows)}", flush=True)
    table.finish()
    return 0
