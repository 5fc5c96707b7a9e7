"""Arrays to training items: loading transforms, data sets, caches, datalists, labels, splits by patient.

The public names are found when they are first used, so that a table of labels is read without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seqnorm_monai.data.breast import CropBreast, CropBreastd
    from seqnorm_monai.data.breast_items import find_breasts
    from seqnorm_monai.data.caching import CachedDataset
    from seqnorm_monai.data.datalists import DatalistError, load_class_names, load_datalist, write_datalist
    from seqnorm_monai.data.dynamic import LoadDynamicStudyd, find_dynamic_studies
    from seqnorm_monai.data.fault_tolerant import FaultTolerantDataset, FaultTolerantLoader
    from seqnorm_monai.data.items import find_images
    from seqnorm_monai.data.load import LoadRadiograph, LoadRadiographd, LoadStudy, LoadStudyd, load_image
    from seqnorm_monai.data.seeding import SeededItems
    from seqnorm_monai.data.tensors import to_metatensor
    from seqnorm_monai.data.workers import init_worker

_WHERE = {
    "CachedDataset": "caching",
    "CropBreast": "breast",
    "CropBreastd": "breast",
    "DatalistError": "datalists",
    "FaultTolerantDataset": "fault_tolerant",
    "FaultTolerantLoader": "fault_tolerant",
    "LoadDynamicStudyd": "dynamic",
    "LoadRadiograph": "load",
    "LoadRadiographd": "load",
    "LoadStudy": "load",
    "LoadStudyd": "load",
    "SeededItems": "seeding",
    "find_breasts": "breast_items",
    "find_dynamic_studies": "dynamic",
    "find_images": "items",
    "init_worker": "workers",
    "load_class_names": "datalists",
    "load_datalist": "datalists",
    "load_image": "load",
    "to_metatensor": "tensors",
    "write_datalist": "datalists",
}
__all__ = [
    "CachedDataset",
    "CropBreast",
    "CropBreastd",
    "DatalistError",
    "FaultTolerantDataset",
    "FaultTolerantLoader",
    "LoadDynamicStudyd",
    "LoadRadiograph",
    "LoadRadiographd",
    "LoadStudy",
    "LoadStudyd",
    "SeededItems",
    "find_breasts",
    "find_dynamic_studies",
    "find_images",
    "init_worker",
    "load_class_names",
    "load_datalist",
    "load_image",
    "to_metatensor",
    "write_datalist",
]


def __getattr__(name: str) -> object:
    """A public name, from the module that has it (PEP 562)."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
