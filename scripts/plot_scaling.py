"""Draw time and memory against the resolution from the CSV of scripts/benchmark_scaling.py, and print it as tables.

python scripts/plot_scaling.py --csv scripts/results/scaling_cpu_051319b.csv --output scripts/results/scaling.png
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence

from seqnorm_monai.benchmarking.figure import draw_scaling, read_rows
from seqnorm_monai.benchmarking.runs import OURS
from seqnorm_monai.benchmarking.summary import markdown_table
from seqnorm_monai.networks.vit import VARIANTS


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", required=True)
    parser.add_argument("--variant", choices=tuple(VARIANTS), default="small")
    parser.add_argument("--output", required=True, metavar="PNG")
    arguments = parser.parse_args(argv)
    try:
        figure = draw_scaling(read_rows(arguments.csv, variant=arguments.variant))
    except (ValueError, ImportError) as error:
        print(error, file=sys.stderr)
        return 1
    figure.savefig(arguments.output)
    with open(arguments.csv, encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["variant"] == arguments.variant]
    forms = [form for form in dict.fromkeys(row["form"] for row in rows) if form != OURS]
    for memory in (False, True):
        print(markdown_table(rows, forms, memory=memory), end="\n\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
