"""Files to read, from a builder that does not use the package under test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import config
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian

from tests.makers.dicom_files import native_bytes


@pytest.fixture
def any_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pydicom write what the standard does not allow."""
    monkeypatch.setattr(config.settings, "writing_validation_mode", config.IGNORE)
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.IGNORE)


@pytest.fixture
def make_dicom(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of one grayscale image; further arguments are attributes, None removes one."""

    def make(
        stored: np.ndarray,
        *,
        bits_allocated: int = 16,
        bits_stored: int = 12,
        signed: bool = False,
        transfer_syntax: str = ExplicitVRLittleEndian,
        pixel_data: bytes | None = None,
        name: str = "image.dcm",
        **attributes: Any,  # noqa: ANN401
    ) -> Path:
        target = UID(transfer_syntax)
        dataset = Dataset()
        dataset.SOPClassUID = ComputedRadiographyImageStorage
        dataset.SOPInstanceUID = "1.2.3.11"
        dataset.StudyInstanceUID = "1.2.3.13"
        dataset.SeriesInstanceUID = "1.2.3.17"
        dataset.PatientName = "Secret^Name"
        dataset.PatientID = "SECRETID"
        dataset.PatientBirthDate = "19010203"
        dataset.Modality = "CR"
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.Rows, dataset.Columns = np.asarray(stored).shape
        dataset.BitsAllocated = bits_allocated
        dataset.BitsStored = bits_stored
        dataset.HighBit = bits_stored - 1
        dataset.PixelRepresentation = int(signed)
        if pixel_data is None:
            dataset.PixelData = native_bytes(stored, bits_allocated, big_endian=target == ExplicitVRBigEndian)
        else:
            dataset.PixelData = encapsulate([pixel_data]) if target.is_encapsulated else pixel_data
        dataset["PixelData"].VR = "OB" if target.is_encapsulated or bits_allocated == 8 else "OW"
        for keyword, value in attributes.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", ComputedRadiographyImageStorage)
        dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.11"
        dataset.file_meta.TransferSyntaxUID = target
        path = tmp_path / name
        dcmwrite(path, dataset, enforce_file_format=True)
        return path

    return make
