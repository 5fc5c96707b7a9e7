"""Draw time and memory against the resolution from the CSV of scripts/benchmark_scaling.py.

python scripts/plot_scaling.py --csv scaling.csv --output scaling.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from seqnorm_monai.benchmarking.figure import MissingMatplotlibError, draw_scaling, read_rows
from seqnorm_monai.networks import VARIANTS


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", required=True)
    parser.add_argument("--variant", choices=tuple(VARIANTS), default="small")
    parser.add_argument("--output", required=True, metavar="PNG")
    arguments = parser.parse_args(argv)
    try:
        figure = draw_scaling(read_rows(arguments.csv, variant=arguments.variant))
    except (ValueError, MissingMatplotlibError) as error:
        print(error, file=sys.stderr)
        return 1
    figure.savefig(arguments.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
