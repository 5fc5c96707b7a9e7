"""MONAI transforms that bring DICOM studies, NIfTI volumes and radiographs into a pipeline."""

from seqnorm_monai.transforms.radiograph import LoadRadiograph, LoadRadiographd
from seqnorm_monai.transforms.study import LoadStudy, LoadStudyd

__all__ = ["LoadRadiograph", "LoadRadiographd", "LoadStudy", "LoadStudyd"]
