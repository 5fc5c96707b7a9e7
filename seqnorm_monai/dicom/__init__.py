"""Radiographs out of DICOM files, and DICOM files out of arrays.

`read_radiograph` goes from a file to pixels of the right polarity; `write_radiograph` makes sample data.
Every refusal is a `DicomReadError` that names the file and the reason.
"""

from seqnorm_monai.dicom.errors import (
    DicomReadError,
    NoPixelDataError,
    NotDicomError,
    OtherModalityError,
    PixelDecodeError,
    UnreadableFileError,
    UnsupportedImageError,
    find_read_error,
)
from seqnorm_monai.dicom.radiograph import Radiograph, read_radiograph
from seqnorm_monai.dicom.wrap import RadiographHeader, write_radiograph, write_radiograph_jpeg

__all__ = [
    "DicomReadError",
    "NoPixelDataError",
    "NotDicomError",
    "OtherModalityError",
    "PixelDecodeError",
    "Radiograph",
    "RadiographHeader",
    "UnreadableFileError",
    "UnsupportedImageError",
    "find_read_error",
    "read_radiograph",
    "write_radiograph",
    "write_radiograph_jpeg",
]
