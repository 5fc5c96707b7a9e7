"""Small studies as DICOM files, written with pydicom alone, whose values and places are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

STUDY, SERIES = "1.2.3.13", "1.2.3.17"
SPACING = (0.75, 1.25, 2.5)
SECRETS = ("Secret^Name", "SECRETID", "19010203")


def mr_slice(pixels: npt.NDArray[np.uint16], height: float, sop: str, **attributes: Any) -> Dataset:  # noqa: ANN401
    """An axial slice at `height` mm; PixelSpacing 1.25 mm between rows, 0.75 between columns; None removes."""
    dataset = Dataset()
    dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = sop
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, SERIES
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = SECRETS
    dataset.Modality = "MR"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.FrameOfReferenceUID = "1.2.3.19"
    dataset.ImagePositionPatient = [-10, 20, height]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [SPACING[1], SPACING[0]]
    dataset.SliceThickness = SPACING[2]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.PixelData = pixels.astype("<u2").tobytes()
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def save(dataset: Dataset, path: Path) -> Path:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def write_phases(folder: Path, num_phases: int = 1, **attributes: Any) -> npt.NDArray[np.uint16]:  # noqa: ANN401
    """A series of 4 slices of 6 x 5 pixels for each phase, in file names without order.

    Returns the values (phases, x, y, z), z rising with the height.
    """
    generator = np.random.default_rng(5)
    values = generator.integers(0, 4000, (num_phases, 5, 6, 4)).astype(np.uint16)
    names = iter(generator.permutation(4 * num_phases))
    series = attributes.get("SeriesInstanceUID", SERIES)
    for phase in range(num_phases):
        for z in range(4):
            number = {"TemporalPositionIdentifier": phase + 1} if num_phases > 1 else {}
            sop = f"{series}.{phase + 1}.{z + 1}"
            dataset = mr_slice(values[phase, :, :, z].T, -5 + z * SPACING[2], sop, **number, **attributes)
            save(dataset, folder / f"I{next(names)}")
    return values


def true_affine() -> npt.NDArray[np.float64]:
    """Voxel (x, y, z) of `write_phases` -> mm, RAS."""
    return np.array(
        [[-SPACING[0], 0, 0, 10], [0, -SPACING[1], 0, -20], [0, 0, SPACING[2], -5], [0, 0, 0, 1]], dtype=np.float64
    )
