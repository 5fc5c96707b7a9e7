"""What a file says, found without the package under test."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import torch
from monai.data import MetaTensor
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from seqnorm_monai.dicom import DicomReadError
from seqnorm_monai.dicom.quiet import quiet_pydicom
from seqnorm_monai.dicom.sources import SourceFile
from seqnorm_monai.dicom.study import read_studies
from seqnorm_monai.dicom.volume import load_volume
from seqnorm_monai.nifti import NiftiVolume

# All that decides which values come out, and where they are.
_DECISIVE = (
    *("Rows", "Columns", "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("SamplesPerPixel", "PlanarConfiguration", "PhotometricInterpretation", "PixelPaddingValue"),
    *("PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "SOPClassUID"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SpacingBetweenSlices", "SliceThickness"),
    *("ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio", "GridFrameOffsetVector"),
    *("RedPaletteColorLookupTableData", "RedPaletteColorLookupTableDescriptor", "PixelData", "FloatPixelData"),
    *("GreenPaletteColorLookupTableData", "GreenPaletteColorLookupTableDescriptor", "DoubleFloatPixelData"),
    *("BluePaletteColorLookupTableData", "BluePaletteColorLookupTableDescriptor", "DoseGridScaling"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "DimensionIndexSequence"),
    *("ImageType", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "RealWorldValueMappingSequence"),
)
_NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)


@dataclass(frozen=True)
class Image:
    """What the reader made of a file (None: refused), and a digest of all that decides it (None: cannot be parsed)."""

    values: tuple[np.ndarray, ...] | None
    digest: str | None

    @classmethod
    def read(cls, path: Path) -> Image:
        return cls(read_values(path), _digest(path))


def read_values(path: Path) -> tuple[np.ndarray, ...] | None:
    """The reader's pixels, affines and whatever else has to be right; None where it refuses."""
    report = read_studies([SourceFile("shown", path)])
    (record,) = report.files
    volumes = [volume for series in report.series for volume in series.volumes]
    assert record.path == "shown" and (record.status == "used") == bool(volumes)
    if not volumes:
        assert record.status in ("rejected", "set_aside") and record.reason
        return None
    values = []
    for volume in volumes:
        try:
            tensor = load_volume(volume)
        except DicomReadError as error:
            assert error.path == path and error.reason
            return None
        values += [tensor.as_tensor().numpy(), tensor.affine.numpy()]
    return tuple(values)


def check_dicom(path: Path, original: Image) -> str:
    """Refused, or the values of the original where nothing decisive differs, or those that pydicom reads."""
    image = Image.read(path)
    if image.values is None:
        return "refused"
    for values in image.values:
        assert np.isfinite(values).all()
    if image.digest is not None and image.digest == original.digest and original.values is not None:
        assert len(image.values) == len(original.values)
        for values, expected in zip(image.values, original.values):
            np.testing.assert_array_equal(values, expected)
        return "value of the original"
    expected = _plain_values(path)
    if expected is None:
        return "value unchecked"
    # (x, y) of one channel
    np.testing.assert_allclose(image.values[0][0].T, expected, rtol=1e-5, atol=1e-5)
    return "value of pydicom"


def _digest(path: Path) -> str | None:
    try:
        with quiet_pydicom():
            dataset = pydicom.dcmread(path, force=True)
            parts = [str(dataset.file_meta.get("TransferSyntaxUID")), str(dataset.original_encoding)]
            for keyword in _DECISIVE:
                value = dataset.get(keyword)
                parts.append(value.hex() if isinstance(value, bytes) else f"{keyword} {value}")
    # whatever the damage led to
    except Exception:
        return None
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _plain_values(path: Path) -> np.ndarray | None:
    """Rescaled values of one native grayscale frame by pydicom; None for anything less simple."""
    try:
        with quiet_pydicom():
            dataset = pydicom.dcmread(path, force=True)
            simple = dataset.file_meta.get("TransferSyntaxUID") in _NATIVE
            simple &= dataset.PhotometricInterpretation.strip() == "MONOCHROME2" and dataset.SamplesPerPixel == 1
            simple &= not any(keyword in dataset for keyword in ("PixelPaddingValue", "ModalityLUTSequence"))
            simple &= int(dataset.get("NumberOfFrames") or 1) == 1
            if not simple:
                return None
            stored = dataset.pixel_array.astype(np.float64)
            slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
            return stored * float(1 if slope is None else slope) + float(0 if intercept is None else intercept)
    except Exception:
        return None


_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}


def check_nifti(content: bytes, volumes: Sequence[NiftiVolume], tensors: Sequence[MetaTensor]) -> None:
    """Values and, where the sform decides, affines by the offsets of nifti1.h."""
    order = "<" if struct.unpack_from("<i", content)[0] == 348 else ">"
    dim = struct.unpack_from(f"{order}8h", content, 40)
    (datatype,) = struct.unpack_from(f"{order}h", content, 70)
    offset, slope, intercept = struct.unpack_from(f"{order}3f", content, 108)
    shape = ([*dim[1 : dim[0] + 1]] + [1] * 7)[:4]
    channels = {128: 3, 2304: 4}.get(datatype, 1)
    dtype = np.dtype(_TYPES.get(datatype, "u1")).newbyteorder(order)
    count = int(np.prod(shape, dtype=object)) * channels
    stored = np.frombuffer(content, dtype, count, int(offset) or 352).reshape((channels, *shape), order="F")
    with np.errstate(all="ignore"):
        scaled = stored.astype(np.float64)
        if slope and not np.isnan(slope) and channels == 1:
            scaled = scaled * slope + intercept
        expected = (stored if scaled is stored else scaled).astype(np.float32)
    assert len(volumes) == shape[3]
    for index, tensor in enumerate(tensors):
        np.testing.assert_array_equal(tensor.as_tensor().numpy(), expected[..., index])
        assert torch.isfinite(tensor.affine).all()
    if volumes[0].orientation_source == "sform" and len(volumes[0].notes) < 2:
        rows = np.array(struct.unpack_from(f"{order}12f", content, 280), np.float64).reshape(3, 4)
        scale = {1: 1000.0, 3: 0.001}.get(content[123] & 7, 1.0)
        np.testing.assert_allclose(volumes[0].affine[:3], rows * scale, rtol=1e-12)
