"""Arrays to training items: loading transforms, data sets, caches, datalists, labels, splits by patient."""

from seqnorm_monai.data.caching import CachedDataset
from seqnorm_monai.data.datalists import DatalistError, load_datalist, write_datalist
from seqnorm_monai.data.fault_tolerant import FaultTolerantDataset, FaultTolerantLoader
from seqnorm_monai.data.items import find_images
from seqnorm_monai.data.load import LoadRadiograph, LoadRadiographd, LoadStudy, LoadStudyd, load_image
from seqnorm_monai.data.seeding import SeededItems
from seqnorm_monai.data.tensors import to_metatensor
from seqnorm_monai.data.workers import init_worker

__all__ = [
    "CachedDataset",
    "DatalistError",
    "FaultTolerantDataset",
    "FaultTolerantLoader",
    "LoadRadiograph",
    "LoadRadiographd",
    "LoadStudy",
    "LoadStudyd",
    "SeededItems",
    "find_images",
    "init_worker",
    "load_datalist",
    "load_image",
    "to_metatensor",
    "write_datalist",
]
