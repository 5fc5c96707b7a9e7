"""How far rules of one line get on the sample of the breast MRI bundle: what a network has to be better than.

    python scripts/samples/simple_rules.py bundles/breast_mri_classification

The rules are applied to the crops that the training sees, on all breasts of the sample, and their AUROC is written to
the bundle's page between its marks for it. Direction counts: below 0.5 the rule points the wrong way.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from monai.bundle import ConfigParser
from monai.transforms import Compose
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from seqnorm_monai.atomic_files import replacing
from seqnorm_monai.data import load_datalist

BEGIN = "<!-- simple rules: scripts/samples/simple_rules.py writes what is between these marks -->\n"
END = "<!-- end of simple rules -->"
CHANNELS = ["pre", "sub_1", "sub_2"]  # behind the pre that tells the body


def crops(bundle: Path) -> tuple[np.ndarray, np.ndarray]:
    """(breasts, channels, x, y, z) before the augmentation, and (breasts,) whether malignant."""
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "train.json"))
    parser["bundle_root"] = str(bundle)
    parser["preprocessing_settings#channels"] = CHANNELS
    transform = Compose(parser.get_parsed_content("train#deterministic_transforms"))
    names = parser.get_parsed_content("class_names")
    datalist = parser.get_parsed_content("datalist")
    items = [
        item
        for split in ("training", "validation", "test")
        for item in load_datalist(datalist, split=split, class_names=names)
    ]
    images = np.stack([np.asarray(transform(dict(item))["image"]) for item in items])
    return images, np.array([item["label"][0] for item in items])


def rules(images: np.ndarray) -> dict[str, np.ndarray]:
    """A number for each breast."""
    pre, first, last = images.transpose(1, 0, 2, 3, 4)
    fall = first - last
    smooth = np.stack([ndimage.uniform_filter(one, 3) for one in fall])

    def most(values: np.ndarray) -> np.ndarray:
        return values.reshape(len(values), -1).max(axis=1)

    return {
        "volume of the breast": (pre > pre.mean()).mean(axis=(1, 2, 3)),
        "mean enhancement": first.mean(axis=(1, 2, 3)),
        "brightest voxel of the first subtraction": most(first),
        "brightest voxel of the last subtraction": most(last),
        "share of voxels that enhance": (first > 0.5 * np.quantile(first, 0.999)).mean(axis=(1, 2, 3)),
        "steepest fall from the first to the last, one voxel": most(fall),
        "the same, mean of 3 x 3 x 3 voxels": most(smooth),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="folder of the bundle")
    bundle = parser.parse_args(argv).bundle
    images, labels = crops(bundle)
    lines = [f"| {name} | {roc_auc_score(labels, values):.2f} |" for name, values in rules(images).items()]
    page = bundle / "docs" / "README.md"
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        parser.error(f"{page}: needs these two lines:\n{BEGIN}{END}")
    head = f"| rule, on all {len(labels)} generated breasts | AUROC |\n|---|---|\n"
    with replacing(page) as stream:
        stream.write(before + BEGIN + head + "\n".join(lines) + "\n" + END + after)
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
