"""Write the tables of scripts/results/README.md anew from the files beside it.

python scripts/write_results.py            # after a benchmark wrote a file there
python scripts/write_results.py --check    # write nothing, exit code 1 if a table differs from its file
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from seqnorm_monai.benchmarking.results import write_tables

PAGE = Path(__file__).resolve().parent / "results" / "README.md"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE")
    parser.add_argument("--check", action="store_true", help="exit code 1 if a table differs from its file")
    arguments = parser.parse_args(argv)
    text = arguments.page.read_text(encoding="utf-8")
    written = write_tables(text, arguments.page.parent)
    if written == text:
        return 0
    if arguments.check:
        print(f"{arguments.page} differs from its files: run scripts/write_results.py", file=sys.stderr)
        return 1
    arguments.page.write_text(written, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
