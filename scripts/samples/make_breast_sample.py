"""Make the sample data of the breast MRI bundle: generated dynamic contrast studies in the folders of Duke's data.

    python scripts/samples/make_breast_sample.py --output SAMPLE_DATA_OF_THE_BUNDLE
    python scripts/samples/make_breast_sample.py --output FOLDER --studies 400 --spacing 1.5 1.5 3 --diameters 4 8

No patient is in them: `seqnorm_monai.phantoms` makes every voxel out of formulas and a seed. Beside the studies stand a
mask of the lesions for each (``masks``: 1 benign, 2 malignant), the table ``labels.csv`` and the datalist of two
classes. The same options give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from seqnorm_monai.data.collections import collection
from seqnorm_monai.data.collections.engine import prepare
from seqnorm_monai.data.datalists import write_datalist
from seqnorm_monai.phantoms.collection import Recipe, write_collection
from seqnorm_monai.phantoms.lesions import LESIONS

FRACTIONS = (0.6, 0.2, 0.2)


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, type=Path, metavar="FOLDER")
    parser.add_argument("--studies", type=int, default=Recipe.studies)
    parser.add_argument("--spacing", type=float, nargs=3, default=Recipe.spacing, metavar="MM")
    parser.add_argument("--diameters", type=float, nargs=2, default=Recipe.diameters, metavar="MM", help="of lesions")
    parser.add_argument("--enhanced_only", action="store_true", help="one multi-frame file for each study")
    parser.add_argument("--num_workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    given = options(argv)
    given.output.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(given.studies, tuple(given.spacing), tuple(given.diameters), given.enhanced_only, given.seed)
    rows = write_collection(recipe, given.output, num_workers=given.num_workers)
    described = collection("breasts")
    found = prepare(described, given.output, given.output / "labels.csv", fractions=FRACTIONS, seed=given.seed)
    write_datalist(found.datalist, given.output / "datalist.json", described.classes)
    files = sorted(given.output.rglob("*.dcm"))
    provenance = {
        "script": "scripts/samples/make_breast_sample.py",
        "source": "generated: formulas and a seed, no patient",
        "recipe": recipe.__dict__,
        "breasts": dict(Counter(LESIONS[int(row["lesion"])] for row in rows)),
        "items": {split: len(items) for split, items in found.datalist.items()},
        "sha256": {
            path.relative_to(given.output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
        },
    }
    (given.output / "provenance.json").write_text(json.dumps(provenance, indent=1) + "\n")
    print("\n".join(found.lines()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
