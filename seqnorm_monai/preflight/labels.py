"""The labels of a datalist: images, patients and classes of each split, and what they are too few for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqnorm_monai.data.datalists import SPLITS
from seqnorm_monai.preflight.findings import Finding, named

# With fewer, the 95 % interval of an AUROC of 0.8 is wider than 0.3: its standard error is 0.088 with 10 positive and
# 50 negative images (Hanley and McNeil, Radiology 1982;143:29-36).
_FEW = 10


@dataclass(frozen=True)
class SplitLabels:
    """Of one split: numbers of images, of patients, and of positive images of each class."""

    split: str
    images: int
    patients: int
    positives: Mapping[str, int]

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in self.positives.items())
        return f"{self.split}: {self.images} images of {self.patients} patients; positive: {counts}"


def count_labels(split: str, items: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> SplitLabels:
    """Of the items that `seqnorm_monai.data.load_datalist` gives."""
    labels = np.array([item["label"] for item in items]).reshape(len(items), len(class_names))
    positives = dict(zip(class_names, labels.sum(axis=0).astype(int).tolist(), strict=True))
    return SplitLabels(split, len(items), len({item["patient"] for item in items}), positives)


def label_findings(splits: Sequence[SplitLabels]) -> list[Finding]:
    """Classes that a split cannot train or judge."""
    found = []
    for one in splits:
        sides = {name: (count, one.images - count) for name, count in one.positives.items()}
        without = [name for name, (yes, no) in sides.items() if not min(yes, no)]
        few = [f"{name} ({yes} positive)" for name, (yes, no) in sides.items() if 0 < min(yes, no) < _FEW]
        if without:
            use = "is learnt" if one.split == SPLITS[0] else "has an AUROC"
            text = f"split {one.split}: no positive or no negative image of {named(without)}, so that none {use}"
            stops = len(without) == len(sides) and one.split != SPLITS[2]
            found.append(Finding(stops, text, "move patients of both kinds into it, or leave the class out"))
        if few:
            text = f"split {one.split}: fewer than {_FEW} positive or negative images of {named(few)}"
            found.append(Finding(False, text, "expect wide intervals, or add patients"))
    return found
