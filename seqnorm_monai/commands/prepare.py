"""``seqnorm prepare csv``: the datalist of a folder of images from a table of their labels."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_DESCRIPTION = """\
Write MONAI's JSON datalist of a folder of images from a table (CSV) of their labels, every patient in one split. The
columns of the table: image (path below the folder), patient (a pseudonym), and either labels (names joined by "|",
"No Finding" or empty for none) or one column of 0 and 1 for each class. A column split is used as given."""


def main(arguments: Sequence[str]) -> int:
    """Write the datalist; the exit code."""
    options = _parser().parse_args(arguments)
    # not before: the help needs no pandas
    from seqnorm_monai.data.datalists import DatalistError, write_datalist
    from seqnorm_monai.data.label_tables import build_datalist

    try:
        datalist = build_datalist(
            options.labels,
            options.images,
            class_names=options.classes,
            fractions=tuple(options.fractions),
            seed=options.seed,
        )
        class_names = options.classes or _names_in(datalist)
        if not class_names:
            raise DatalistError(f"{options.labels}: no image has a label, so there is no class; or name it: --classes")
        write_datalist(datalist, options.output, class_names)
    except DatalistError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{options.output}: cannot be written ({error.strerror})", file=sys.stderr)
        return 1
    print(_summary(datalist, class_names))
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


def _names_in(datalist: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    return sorted({name for items in datalist.values() for item in items for name in item["label"]})


def _summary(datalist: Mapping[str, Sequence[Mapping[str, Any]]], class_names: Sequence[str]) -> str:
    """How many images and patients each split has, and the classes."""
    lines = []
    for split, items in datalist.items():
        patients = {item["patient"] for item in items}
        lines.append(f"{split}: {len(items)} images of {len(patients)} patients")
    return "\n".join([*lines, f"classes: {', '.join(class_names)}"])
