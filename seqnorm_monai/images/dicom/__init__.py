"""DICOM studies, series and radiographs as arrays, and DICOM files out of arrays.

`open_sources`, `read_studies` and `load_volume` go from any folder, archive or medium to tensors with their place in a
patient; `read_radiograph` from one file to pixels of the right polarity; `write_radiograph` makes sample data. Every
refusal is a `DicomReadError` that names file or series and the reason.
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
    find_read_error,
)
from seqnorm_monai.images.dicom.radiograph import Radiograph, read_radiograph
from seqnorm_monai.images.dicom.series import ScannedStudies, Series, read_studies
from seqnorm_monai.images.dicom.volume import Volume, load_volume
from seqnorm_monai.images.dicom.write import RadiographHeader, write_radiograph, write_radiograph_jpeg

__all__ = [
    "DicomReadError",
    "NoPixelDataError",
    "NotDicomError",
    "OtherModalityError",
    "PixelDecodeError",
    "Radiograph",
    "RadiographHeader",
    "ScannedStudies",
    "Series",
    "SeriesError",
    "UnreadableFileError",
    "UnsupportedImageError",
    "Volume",
    "find_read_error",
    "load_volume",
    "read_radiograph",
    "read_studies",
    "write_radiograph",
    "write_radiograph_jpeg",
]
