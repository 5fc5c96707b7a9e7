"""``seqnorm prepare``: a datalist from a table of labels, or from a public collection as it is published."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seqnorm_monai.data.collections import NAMES, collection

_DESCRIPTION = """\
Write MONAI's JSON datalist of a folder of images from a table (CSV) of their labels, every patient in one split. The
columns of the table: image (path below the folder), patient (a pseudonym), and either labels (names joined by "|",
"No Finding" or empty for none) or one column of 0 and 1 for each class. A column split is used as given."""


def main(arguments: Sequence[str]) -> int:
    """Write the datalist; the exit code."""
    options = _parser().parse_args(arguments)
    # not before: the help needs no pandas
    from seqnorm_monai.data.datalists import DatalistError

    try:
        lines = _from_table(options) if options.kind == "csv" else _from_collection(options)
    except DatalistError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{options.output}: cannot be written ({error.strerror})", file=sys.stderr)
        return 1
    print("\n".join(lines))
    return 0


def _from_table(options: argparse.Namespace) -> list[str]:
    from seqnorm_monai.data.datalists import DatalistError, write_datalist
    from seqnorm_monai.data.label_tables import build_datalist

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
    return _summary(datalist, class_names)


def _from_collection(options: argparse.Namespace) -> list[str]:
    from seqnorm_monai.data.collections.engine import prepare
    from seqnorm_monai.data.datalists import write_datalist

    described = collection(options.kind)
    found = prepare(described, options.root, options.table, fractions=options.fractions, seed=options.seed)
    write_datalist(found.datalist, options.output, described.classes)
    return found.lines()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="seqnorm prepare", description="Prepare a folder of images for training.")
    kinds = parser.add_subparsers(required=True, metavar="KIND", dest="kind")
    csv = kinds.add_parser("csv", help="from a table of labels", description=_DESCRIPTION)
    csv.add_argument("--labels", required=True, metavar="CSV", type=Path)
    csv.add_argument("--images", required=True, metavar="FOLDER", type=Path)
    csv.add_argument("--classes", nargs="+", metavar="NAME", help="default: every name found in the table")
    _add_common(csv)
    for name, (_, _, says) in NAMES.items():
        of_collection = kinds.add_parser(name, help=says, description=f"Write the datalist of {says}.")
        of_collection.add_argument("--root", required=True, metavar="FOLDER", type=Path)
        of_collection.add_argument("--table", metavar="FILE", type=Path, help="default: where the collection has it")
        _add_common(of_collection)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", "--out", required=True, metavar="JSON", type=Path)
    parser.add_argument(
        "--fractions", nargs=3, type=float, default=(0.7, 0.1, 0.2), metavar=("TRAINING", "VALIDATION", "TEST")
    )
    parser.add_argument("--seed", type=int, default=0)


def _names_in(datalist: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    return sorted({name for items in datalist.values() for item in items for name in item["label"]})


def _summary(datalist: Mapping[str, Sequence[Mapping[str, Any]]], class_names: Sequence[str]) -> list[str]:
    """How many images and patients each split has, and the classes."""
    lines = []
    for split, items in datalist.items():
        patients = {item["patient"] for item in items}
        lines.append(f"{split}: {len(items)} images of {len(patients)} patients")
    return [*lines, f"classes: {', '.join(class_names)}"]
