"""Studies to read in a benchmark: radiographs and volumes as DICOM files, in the usual transfer syntaxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    UID,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

SYNTAXES = {
    "native": ExplicitVRLittleEndian,
    "RLE": RLELossless,
    "JPEG-LS": JPEGLSLossless,
    "JPEG 2000": JPEG2000Lossless,
}
Pixels = npt.NDArray[np.uint16]


def write_radiographs(folder: Path, syntax: str, *, count: int, size: int) -> list[Path]:
    """`count` images of `size` x `size` pixels of 12 bits, one file each."""
    return [_write(_dataset(_texture(size, seed), 12, syntax), folder / f"{seed}.dcm", syntax) for seed in range(count)]


def write_volume(folder: Path, syntax: str, *, slices: int, size: int) -> list[Path]:
    """One series of `slices` axial slices of `size` x `size` pixels of 16 bits, 1 mm apart, rescaled as CT is."""
    series = generate_uid(entropy_srcs=["seqnorm_monai", "benchmark", syntax])
    paths = []
    for index in range(slices):
        dataset = _dataset(_texture(size, index), 16, syntax)
        dataset.SOPClassUID, dataset.SeriesInstanceUID, dataset.Modality = CTImageStorage, series, "CT"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.FrameOfReferenceUID = f"{series}.1"
        dataset.ImagePositionPatient = [-size / 2, -size / 2, index]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.SliceThickness, dataset.InstanceNumber = 1, index + 1
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        paths.append(_write(dataset, folder / f"{index:04}.dcm", syntax))
    return paths


def _texture(size: int, seed: int) -> Pixels:
    """Smooth structure and a little noise, 12 bits: what lossless coders shrink to about half, as they do images."""
    y, x = np.mgrid[0:size, 0:size] / size
    smooth = 1500 + 900 * np.sin(9 * x + seed) * np.cos(7 * y) + 600 * np.exp(-8 * ((x - 0.5) ** 2 + (y - 0.4) ** 2))
    return (smooth + np.random.default_rng(seed).normal(0, 12, (size, size))).clip(0, 4095).astype(np.uint16)


def _dataset(pixels: Pixels, bits: int, syntax: str) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[pixels.tobytes().hex()[:4096], str(pixels.sum()), syntax])
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.10.1", "1.2.826.0.1.3680043.10.2"
    dataset.Modality, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = "DX", 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelSpacing = [1, 1]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, bits, bits - 1, 0
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def _write(dataset: Dataset, path: Path, syntax: str) -> Path:
    target = UID(SYNTAXES[syntax])
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if target != ExplicitVRLittleEndian:
        dataset.compress(target, generate_instance_uid=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, dataset, enforce_file_format=True)
    return path
