"""``seqnorm prepare csv``: the datalist of a folder of images from a table of their labels."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seqnorm_monai.data.datalists import DatalistError, write_datalist
from seqnorm_monai.data.label_tables import build_datalist

_DESCRIPTION = """\
Write MONAI's JSON datalist of a folder of images from a table (CSV) of their labels, every patient in one split. The
columns of the table: image (path below the folder), patient (a pseudonym), and either labels (names joined by "|",
"No Finding" or empty for none) or one column of 0 and 1 for each class. A column split is used as given."""


def main(arguments: Sequence[str]) -> int:
    """Write the datalist; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        datalist = build_datalist(
            options.labels,
            options.images,
            class_names=options.classes,
            fractions=tuple(options.fractions),
            seed=options.seed,
        )
    except DatalistError as error:
        print(error, file=sys.stderr)
        return 1
    try:
        write_datalist(datalist, options.output)
    except OSError as error:
        print(f"{options.output}: cannot be written ({error.strerror})", file=sys.stderr)
        return 1
    print(_summary(datalist, options.classes))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="seqnorm prepare", description="Prepare a folder of images for training.")
    kinds = parser.add_subparsers(required=True, metavar="KIND", dest="kind")
    csv = kinds.add_parser("csv", help="from a table of labels", description=_DESCRIPTION)
    csv.add_argument("--labels", required=True, metavar="CSV", type=Path)
    csv.add_argument("--images", required=True, metavar="FOLDER", type=Path)
    csv.add_argument("--output", required=True, metavar="JSON", type=Path)
    csv.add_argument("--classes", nargs="+", metavar="NAME", help="default: every name found in the table")
    csv.add_argument(
        "--fractions", nargs=3, type=float, default=(0.7, 0.1, 0.2), metavar=("TRAINING", "VALIDATION", "TEST")
    )
    csv.add_argument("--seed", type=int, default=0)
    return parser


def _summary(datalist: Mapping[str, Sequence[Mapping[str, Any]]], classes: Sequence[str] | None) -> str:
    """How many images and patients each split has, and the classes."""
    lines = []
    for split, items in datalist.items():
        patients = {item["patient"] for item in items}
        lines.append(f"{split}: {len(items)} images of {len(patients)} patients")
    names = sorted({name for items in datalist.values() for item in items for name in item["label"]})
    return "\n".join([*lines, f"classes: {', '.join(classes or names)}"])
