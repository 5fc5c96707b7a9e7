"""What the reader makes of damaged files, held against what the files say."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import torch
from monai.data import MetaTensor

from seqnorm_monai.images.dicom import DicomReadError
from seqnorm_monai.images.dicom.series import read_studies
from seqnorm_monai.images.dicom.silence import pydicom_silenced
from seqnorm_monai.images.dicom.volume import Volume
from seqnorm_monai.images.nifti import NiftiVolume
from seqnorm_monai.images.sources import SourceFile
from tests.images.dicom.fuzz.reference import Frame, reference_frames
from tests.makers.reading import load_volume

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
# Slices may be this much of their distance, or this far in mm, from their place: what rounded positions leave.
_UNEVEN = 0.021


@dataclass(frozen=True)
class Image:
    """What the reader made of files (empty: refused), and a digest of all that decides it (None: cannot be parsed)."""

    volumes: tuple[tuple[Volume, MetaTensor], ...]
    digest: str | None

    @classmethod
    def read(cls, path: Path) -> Image:
        return cls(read_volumes({"shown": path}), _digest(path))


def read_volumes(paths: Mapping[str, Path]) -> tuple[tuple[Volume, MetaTensor], ...]:
    """All volumes of some files; every file is accounted for, and what is not read is refused by name."""
    report = read_studies([SourceFile(name, path) for name, path in paths.items()])
    assert [record.path for record in report.files] == list(paths)
    used = {name for volume in report.volumes for name in volume.files}
    found = []
    for record in report.files:
        assert (record.status == "used") == (record.path in used)
        assert record.status in ("used", "rejected", "set_aside") and (record.reason or record.status == "used")
    for volume in report.volumes:
        try:
            found.append((volume, load_volume(volume)))
        except DicomReadError as error:
            assert error.path in paths.values() and error.reason
    return tuple(found)


def check_dicom(path: Path, original: Image) -> str:
    """Refused, or the values of the original where nothing decisive differs, or those that pydicom reads."""
    image = Image.read(path)
    if not image.volumes:
        return "refused"
    if image.digest is not None and image.digest == original.digest and original.volumes:
        assert len(image.volumes) == len(original.volumes)
        for (_, tensor), (_, expected) in zip(image.volumes, original.volumes):
            np.testing.assert_array_equal(tensor.numpy(), expected.numpy())
            np.testing.assert_array_equal(tensor.affine, expected.affine)
        return "value of the original"
    return check_volumes(image.volumes)


def check_volumes(volumes: Sequence[tuple[Volume, MetaTensor]]) -> str:
    """Every plane of every volume has the values, place and phase that pydicom finds in its file."""
    if not volumes:
        return "refused"
    frames: dict[Path, list[Frame] | None] = {}
    for volume, tensor in volumes:
        assert torch.isfinite(tensor).all() and torch.isfinite(tensor.affine).all()
        times = set()
        for index, plane in enumerate(volume.planes):
            found = frames.setdefault(plane.path, reference_frames(plane.path))
            if found is not None:
                times.add(str(found[plane.frame].time))
                _check_plane(volume, tensor, index, found[plane.frame])
        # frames without a place are in the order of the file, whatever their phases
        assert len(times) < 2 or volume.kind == "frames", f"phases {times} in one volume"
    return "value unchecked" if None in frames.values() else "value of pydicom"


def _check_plane(volume: Volume, tensor: MetaTensor, index: int, frame: Frame) -> None:
    # (channels, x, y) -> (rows, columns, channels)
    values = tensor.numpy()[..., index] if volume.kind != "image" else tensor.numpy()
    far = np.abs(values.transpose(2, 1, 0) - frame.values)
    assert far.max() <= frame.tolerance, f"pixels differ by up to {far.max():g}"
    if volume.affine is None or frame.place is None:
        return
    affine = tensor.affine.numpy()
    scale = 1e-6 * (1 + np.abs(frame.place).max())
    np.testing.assert_allclose(affine[:3, :2].T, frame.place[:2], rtol=1e-3, atol=2e-3 * np.abs(frame.place[:2]).max())
    allowed = scale if index == 0 else max(_UNEVEN, _UNEVEN * float(np.linalg.norm(affine[:3, 2])))
    assert np.abs(affine[:3, 3] + index * affine[:3, 2] - frame.place[2]).max() <= allowed


def _digest(path: Path) -> str | None:
    try:
        with pydicom_silenced():
            dataset = pydicom.dcmread(path, force=True)
            parts = [str(dataset.file_meta.get("TransferSyntaxUID")), str(dataset.original_encoding)]
            for keyword in _DECISIVE:
                value = dataset.get(keyword)
                parts.append(value.hex() if isinstance(value, bytes) else f"{keyword} {value}")
    # whatever the damage led to
    except Exception:
        return None
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


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
        # one slice has no third axis
        one = expected[..., 0, index] if shape[2] == 1 else expected[..., index]
        np.testing.assert_array_equal(tensor.as_tensor().numpy(), one)
        assert torch.isfinite(tensor.affine).all()
    if volumes[0].orientation_source == "sform" and len(volumes[0].warnings) < 2:
        rows = np.array(struct.unpack_from(f"{order}12f", content, 280), np.float64).reshape(3, 4)
        scale = {1: 1000.0, 3: 0.001}.get(content[123] & 7, 1.0)
        np.testing.assert_allclose(volumes[0].affine[:3], rows * scale, rtol=1e-12)
