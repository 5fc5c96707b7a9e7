"""Arrays to training items: MONAI transforms that load, data sets, datalists, labels and splits."""

from seqnorm_monai.data.caching import CachedDataset
from seqnorm_monai.data.datalists import DatalistError, load_datalist, write_datalist
from seqnorm_monai.data.fault_tolerant import FaultTolerantDataset, FaultTolerantLoader
from seqnorm_monai.data.items import find_images
from seqnorm_monai.data.load import LoadStudy, LoadStudyd
from seqnorm_monai.data.radiograph import LoadRadiograph, LoadRadiographd

__all__ = [
    "CachedDataset",
    "DatalistError",
    "FaultTolerantDataset",
    "FaultTolerantLoader",
    "LoadRadiograph",
    "LoadRadiographd",
    "LoadStudy",
    "LoadStudyd",
    "find_images",
    "load_datalist",
    "write_datalist",
]
