"""Write a grayscale image as a Computed Radiography Image Storage file (PS3.3 annex A.2), for sample data."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    JPEG2000,
    PYDICOM_IMPLEMENTATION_UID,
    UID,
    ComputedRadiographyImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from seqnorm_monai.images.dicom.pixels.codestream import frame_info, has_end_marker

_BASELINE = 0xC0


@dataclass(frozen=True, kw_only=True)
class RadiographHeader:
    """What a sample file says about patient, study and projection; nothing is invented, no date is written.

    `patient_sex` is M, F, O or "", `patient_age` is like "045Y" or "", `view_position` is like "PA", "AP" or "".
    `pixel_spacing` is (between rows, between columns) in mm at the detector, written as ImagerPixelSpacing.
    """

    patient_id: str
    study_uid: str
    series_uid: str
    sop_uid: str
    view_position: str
    patient_sex: str
    patient_age: str
    body_part: str = "CHEST"
    pixel_spacing: tuple[float, float] | None = None
    series_description: str = ""


def write_radiograph(
    path: str | os.PathLike[str],
    pixels: npt.NDArray[np.unsignedinteger],
    header: RadiographHeader,
    *,
    bits_stored: int | None = None,
    photometric_interpretation: str = "MONOCHROME2",
    transfer_syntax: str = ExplicitVRLittleEndian,
    j2k_ratio: float | None = None,
) -> None:
    """Write `pixels` (rows, columns), uint8 or uint16 in display polarity (largest is white), to `path`.

    For MONOCHROME1 the stored values are ``2^bits_stored - 1 - pixels``. `bits_stored` is that of the array's type
    unless given. `transfer_syntax` is any that pydicom encodes; JPEG 2000 lossy needs `j2k_ratio`, the wanted ratio
    of the stored bits before to those after compression. The same arguments give the same bytes.

    The files pass dciodvfy (dicom3tools) without errors. Raises ValueError that names the argument.
    """
    bits = pixels.dtype.itemsize * 8 if bits_stored is None else bits_stored
    _check_pixels(pixels, bits, photometric_interpretation)
    if (transfer_syntax == JPEG2000) != (j2k_ratio is not None):
        raise ValueError("j2k_ratio is needed for lossy JPEG 2000, and for nothing else")
    stored = (2**bits - 1 - pixels).astype(pixels.dtype) if photometric_interpretation == "MONOCHROME1" else pixels
    dataset = _dataset(header, stored.shape, stored.dtype.itemsize * 8, bits, photometric_interpretation)
    target = UID(transfer_syntax)
    native = stored.astype(stored.dtype.newbyteorder(">" if target == ExplicitVRBigEndian else "<")).tobytes()
    dataset.PixelData = native + b"\0" * (len(native) % 2)
    dataset["PixelData"].VR = "OW" if stored.dtype.itemsize == 2 else "OB"
    if target.is_encapsulated:
        dataset.file_meta = _file_meta(header, ExplicitVRLittleEndian)
        # GDCM's RLE encoder, the first of pydicom's choices, aborts the process on an odd number of pixels.
        plugin = "pydicom" if target == RLELossless else ""
        ratio = None if j2k_ratio is None else [j2k_ratio]
        dataset.compress(target, encoding_plugin=plugin, generate_instance_uid=False, j2k_cr=ratio)
    if j2k_ratio is not None:
        _mark_lossy(dataset, "ISO_15444_1")
    dataset.file_meta = _file_meta(header, target)
    dcmwrite(path, dataset, enforce_file_format=True)


def write_radiograph_jpeg(path: str | os.PathLike[str], jpeg: bytes, header: RadiographHeader) -> None:
    """Write an 8-bit grayscale baseline JPEG stream to `path` as MONOCHROME2, byte for byte, without recompression.

    Raises ValueError for any other stream, and for one that is cut off.
    """
    info = frame_info(jpeg)
    if info is None or info.marker != _BASELINE or info.precision != 8 or info.components != 1:
        raise ValueError("jpeg: an 8-bit baseline JPEG stream with one component is needed")
    if not info.rows or not has_end_marker(jpeg):
        raise ValueError("jpeg: the stream has no size in its header or no end marker")
    dataset = _dataset(header, (info.rows, info.columns), 8, 8, "MONOCHROME2")
    dataset.file_meta = _file_meta(header, JPEGBaseline8Bit)
    dataset.PixelData = encapsulate([jpeg])
    dataset["PixelData"].VR = "OB"
    _mark_lossy(dataset, "ISO_10918_1")
    dcmwrite(path, dataset, enforce_file_format=True)


def _check_pixels(pixels: npt.NDArray[np.unsignedinteger], bits: int, photometric_interpretation: str) -> None:
    if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.uint16) or not pixels.size:
        raise ValueError(f"pixels: (rows, columns) of uint8 or uint16, got {pixels.shape} of {pixels.dtype}")
    if max(pixels.shape) > 65535:
        raise ValueError(f"pixels: at most 65535 rows and columns, got {pixels.shape}")
    if not 1 <= bits <= pixels.dtype.itemsize * 8:
        raise ValueError(f"bits_stored: 1 to {pixels.dtype.itemsize * 8} for {pixels.dtype}, got {bits}")
    if int(pixels.max()) >= 2**bits:
        raise ValueError(f"pixels: the largest value {pixels.max()} needs more than bits_stored={bits}")
    if photometric_interpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise ValueError(f"photometric_interpretation: MONOCHROME1 or 2, got {photometric_interpretation!r}")


def _dataset(
    header: RadiographHeader, shape: tuple[int, ...], allocated: int, stored: int, photometric: str
) -> Dataset:
    """All attributes of types 1 and 2 of the CR image; type 2 ones that are not known are empty."""
    dataset = Dataset()
    _add_patient_and_study(dataset, header)
    _add_series(dataset, header)
    dataset.InstanceNumber = 1
    dataset.PatientOrientation = None
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.BurnedInAnnotation = "NO"
    if header.pixel_spacing is not None:
        dataset.ImagerPixelSpacing = [f"{value:.8g}" for value in header.pixel_spacing]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = photometric
    dataset.Rows, dataset.Columns = shape
    dataset.BitsAllocated = allocated
    dataset.BitsStored = stored
    dataset.HighBit = stored - 1
    dataset.PixelRepresentation = 0
    dataset.LossyImageCompression = "00"
    return dataset


def _add_patient_and_study(dataset: Dataset, header: RadiographHeader) -> None:
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = header.sop_uid
    dataset.PatientName = ""
    dataset.PatientID = header.patient_id
    dataset.PatientBirthDate = ""
    dataset.PatientSex = header.patient_sex
    if header.patient_age:
        dataset.PatientAge = header.patient_age
    dataset.StudyInstanceUID = header.study_uid
    dataset.StudyDate = ""
    dataset.StudyTime = ""
    dataset.ReferringPhysicianName = ""
    dataset.StudyID = ""
    dataset.AccessionNumber = ""


def _add_series(dataset: Dataset, header: RadiographHeader) -> None:
    dataset.Modality = "CR"
    dataset.SeriesInstanceUID = header.series_uid
    dataset.SeriesNumber = 1
    if header.series_description:
        dataset.SeriesDescription = header.series_description
    dataset.Manufacturer = ""
    dataset.BodyPartExamined = header.body_part
    dataset.ViewPosition = header.view_position


def _mark_lossy(dataset: Dataset, method: str) -> None:
    """PS3.3 section C.7.6.1.1.5. The size before compression counts the stored bits, as the encoders do."""
    native_size = dataset.Rows * dataset.Columns * dataset.BitsStored / 8
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionRatio = f"{native_size / len(dataset.PixelData):.4g}"
    dataset.LossyImageCompressionMethod = method


def _file_meta(header: RadiographHeader, transfer_syntax: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = header.sop_uid
    meta.TransferSyntaxUID = UID(transfer_syntax)
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    meta.ImplementationVersionName = "SEQNORM_MONAI"
    return meta
