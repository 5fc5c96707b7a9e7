"""DICOM studies, series and radiographs as arrays, and DICOM files out of arrays.

`open_sources`, `read_studies` and `load_volume` go from any folder, archive or medium to tensors with their place in a
patient; `read_radiograph` from one file to pixels of the right polarity; `write_radiograph` makes sample data. Every
refusal is a `DicomReadError` that names file or series and the reason.
"""

from seqnorm_monai.dicom.errors import (
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
from seqnorm_monai.dicom.radiograph import Radiograph, read_radiograph
from seqnorm_monai.dicom.records import FileRecord
from seqnorm_monai.dicom.sources import SourceFile, Sources, open_sources
from seqnorm_monai.dicom.study import Series, StudyReport, read_studies
from seqnorm_monai.dicom.volume import Volume, load_volume
from seqnorm_monai.dicom.wrap import RadiographHeader, write_radiograph, write_radiograph_jpeg

__all__ = [
    "DicomReadError",
    "FileRecord",
    "NoPixelDataError",
    "NotDicomError",
    "OtherModalityError",
    "PixelDecodeError",
    "Radiograph",
    "RadiographHeader",
    "Series",
    "SeriesError",
    "SourceFile",
    "Sources",
    "StudyReport",
    "UnreadableFileError",
    "UnsupportedImageError",
    "Volume",
    "find_read_error",
    "load_volume",
    "open_sources",
    "read_radiograph",
    "read_studies",
    "write_radiograph",
    "write_radiograph_jpeg",
]
