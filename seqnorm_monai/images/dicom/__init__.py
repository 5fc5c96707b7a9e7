"""DICOM studies and series: headers, series, geometry; DICOM files out of arrays.

`read_studies` groups files to volumes, `read_volumes` decodes them, `write_radiograph` makes sample data. Every refusal
is a `DicomReadError` that names file or series and the reason.
"""

from seqnorm_monai.images.dicom.errors import (
    DicomReadError,
    NoPixelDataError,
    NotDicomError,
    OtherModalityError,
    PixelDecodeError,
    SeriesError,
    UnreadableFileError,
    UnsupportedImageError,
)
from seqnorm_monai.images.dicom.series import ScannedStudies, Series, read_studies
from seqnorm_monai.images.dicom.volume import Volume, read_volumes
from seqnorm_monai.images.dicom.write import RadiographHeader, write_radiograph, write_radiograph_jpeg

__all__ = [
    "DicomReadError",
    "NoPixelDataError",
    "NotDicomError",
    "OtherModalityError",
    "PixelDecodeError",
    "RadiographHeader",
    "ScannedStudies",
    "Series",
    "SeriesError",
    "UnreadableFileError",
    "UnsupportedImageError",
    "Volume",
    "read_studies",
    "read_volumes",
    "write_radiograph",
    "write_radiograph_jpeg",
]
