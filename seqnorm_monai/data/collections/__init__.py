"""Public collections: from the files and tables as they are published to a datalist, by a short description of each."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seqnorm_monai.data.collections.engine import Collection

# name on the command line: (module, attribute, what it is)
NAMES = {
    "breasts": ("breast", "PLAIN", "your own breast MRI: a table with the columns study, patient, side and label"),
    "breasts-lesions": (
        "breast",
        "PLAIN_LESIONS",
        "the same with lesion (0 none, 1 benign, 2 malignant) instead of label",
    ),
    "duke": ("breast", "DUKE", "Duke-Breast-Cancer-MRI (TCIA), DICOM, one breast an item"),
    "odelia": ("breast", "ODELIA", "ODELIA, NIfTI, unilateral or bilateral"),
    "odelia-lesions": ("breast", "ODELIA_LESIONS", "ODELIA in three classes: no lesion, benign, malignant"),
    "fastmri-breast": ("breast", "FASTMRI", "fastMRI breast (NYU), DICOM edition, one study an item"),
    "fastmri-breast-lesions": ("breast", "FASTMRI_LESIONS", "fastMRI breast in the same three classes"),
    "mama-mia": ("breast", "MAMA_MIA", "MAMA-MIA: cancers only, which the command says"),
}


def collection(name: str) -> Collection:
    """The description of one of `NAMES`."""
    module, attribute, _ = NAMES[name]
    return getattr(import_module(f"{__name__}.{module}"), attribute)
