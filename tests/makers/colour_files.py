"""Colour images as DICOM files, and the reading of them back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, MultiFrameTrueColorSecondaryCaptureImageStorage

from seqnorm_monai.images.dicom import DicomReadError
from seqnorm_monai.images.dicom.series import read_studies
from seqnorm_monai.images.sources import SourceFile
from tests.makers.reading import load_volume

# odd sizes; JPEG 2000 encoders need 32 in both directions
ROWS, COLUMNS = 37, 43


def colours(bits: int = 8, frames: int = 1, *, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """(frames, rows, columns, 3), smooth, each channel another, from 0 to the largest value."""
    f, y, x = np.mgrid[0:frames, 0:rows, 0:columns]
    top = 2**bits - 1
    channels = [np.sin(x / 9 + f), np.cos(y / 11 + f), np.sin((x + y) / 17 + 1 + f)]
    values = np.stack([top * (0.5 + 0.5 * channel) for channel in channels], axis=-1).round()
    values[:, 0, 0], values[:, -1, -1] = 0, top
    return values.astype(np.uint8 if bits <= 8 else np.uint16)


def write_image(
    path: Path,
    shape: Sequence[int],
    data: bytes | list[bytes],
    syntax: str,
    *,
    samples: int = 3,
    bits: int = 8,
    photometric: str = "RGB",
    **attributes: Any,  # noqa: ANN401
) -> Path:
    """An image of `shape` (frames, rows, columns): native bytes, or one compressed stream for each frame."""
    dataset = Dataset()
    dataset.SOPClassUID = MultiFrameTrueColorSecondaryCaptureImageStorage
    dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3.11", "1.2.3.13", "1.2.3.17"
    dataset.PatientName, dataset.Modality = "Secret^Name", "OT"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = samples, photometric
    if samples == 3:
        dataset.PlanarConfiguration = 0
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = shape[:3]
    dataset.BitsAllocated = 1 if bits == 1 else 8 if bits <= 8 else 16
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits - 1, 0
    dataset.PixelData = encapsulate(data) if isinstance(data, list) else data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB" if isinstance(data, list) or bits <= 8 else "OW"
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def read_image(path: Path) -> np.ndarray:
    """(frames, rows, columns, channels), as `load_volume` has it."""
    report = read_studies([SourceFile(path.name, path)])
    assert [record.status for record in report.files] == ["used"], report.files
    (volume,) = report.volumes
    tensor = load_volume(volume).numpy()
    return tensor.reshape(*tensor.shape[:3], -1).transpose(3, 2, 1, 0)


def refused(path: Path) -> str:
    """Why a file is not read: by its record, or by the error when its pixels are loaded. Nothing of the patient."""
    report = read_studies([SourceFile(path.name, path)])
    (record,) = report.files
    if record.status == "used":
        try:
            load_volume(report.volumes[0])
        except DicomReadError as error:
            assert error.path == path
            reason = f"{error.reason} ({error.advice})"
        else:
            raise AssertionError("the file was read")
    else:
        assert report.volumes == ()
        reason = record.reason
    assert "Secret" not in reason
    return reason
