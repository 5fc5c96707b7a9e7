"""MONAI transforms that bring DICOM studies, NIfTI volumes and radiographs into a pipeline."""

from seqnorm_monai.data.load import LoadStudy, LoadStudyd
from seqnorm_monai.data.radiograph import LoadRadiograph, LoadRadiographd

__all__ = ["LoadRadiograph", "LoadRadiographd", "LoadStudy", "LoadStudyd"]
