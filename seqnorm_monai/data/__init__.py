"""MONAI transforms that bring DICOM studies, NIfTI volumes and radiographs into a pipeline."""

from seqnorm_monai.data.radiograph import LoadRadiograph, LoadRadiographd
from seqnorm_monai.data.load import LoadStudy, LoadStudyd

__all__ = ["LoadRadiograph", "LoadRadiographd", "LoadStudy", "LoadStudyd"]
