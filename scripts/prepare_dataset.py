"""Write the JSON datalist of a folder of images from a CSV of their labels, every patient in one split.

    python scripts/prepare_dataset.py --labels labels.csv --images DICOM_FOLDER --output datalist.json

The columns of the CSV: ``image`` (path below the folder), ``patient`` (a pseudonym), and either ``labels`` (names
joined by "|", "No Finding" or empty for none) or one column of 0 and 1 per class. A column ``split`` is used as given.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from seqnorm_monai.data.datalists import DatalistError, write_datalist
from seqnorm_monai.data.label_tables import build_datalist


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", required=True, metavar="CSV")
    parser.add_argument("--images", required=True, metavar="FOLDER")
    parser.add_argument("--output", required=True, metavar="JSON")
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="default: every name found in the table")
    parser.add_argument(
        "--fractions", nargs=3, type=float, default=(0.7, 0.1, 0.2), metavar=("TRAINING", "VALIDATION", "TEST")
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    try:
        datalist = build_datalist(
            arguments.labels,
            arguments.images,
            class_names=arguments.classes,
            fractions=tuple(arguments.fractions),
            seed=arguments.seed,
        )
    except DatalistError as error:
        print(error, file=sys.stderr)
        return 1
    write_datalist(datalist, arguments.output)
    for split, items in datalist.items():
        patients = {item["patient"] for item in items}
        print(f"{split}: {len(items)} images of {len(patients)} patients")
    names = sorted({name for items in datalist.values() for item in items for name in item["label"]})
    print(f"classes: {', '.join(arguments.classes or names)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
