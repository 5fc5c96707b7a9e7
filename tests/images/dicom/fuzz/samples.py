"""Real and small files, undamaged."""

from __future__ import annotations

import io
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage

from tests.makers.studies import mr_slice, save, write_phases

DICOM_FILES = (
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_expb.dcm",
    "MR_small_implicit.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_padded.dcm",
    "MR_truncated.dcm",
    "JPEG-lossy.dcm",
    "JPGExtended.dcm",
    "JPEGLSNearLossless_16.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_rle.dcm",
    "SC_rgb_rle_2frame.dcm",
    "SC_rgb_small_odd.dcm",
    "SC_ybr_full_422_uncompressed.dcm",
    "SC_rgb_small_odd_jpeg.dcm",
    "image_dfl.dcm",
    "no_meta.dcm",
    "rtdose_rle.dcm",
    "rtdose.dcm",
    "rtdose_1frame.dcm",
    "test-SR.dcm",
    "enhanced",
    "enhanced",
)


@cache
def dicom_file(name: str) -> bytes:
    if name == "enhanced":
        return _enhanced()
    return Path(get_testdata_file(name, download=False)).read_bytes()


def _enhanced() -> bytes:
    """Two temporal positions of three slices in one file, each frame with a slope of its own."""
    random = np.random.default_rng(7)
    dataset = mr_slice(random.integers(0, 4000, (6, 5)).astype(np.uint16), 0, "1.2.3.29.1")
    dataset.SOPClassUID, dataset.NumberOfFrames = EnhancedMRImageStorage, 6
    dataset.PixelData = random.integers(0, 4000, 6 * 30).astype("<u2").tobytes()
    shared = Dataset()
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = dataset.PixelSpacing
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = dataset.ImageOrientationPatient
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = []
    for frame in range(6):
        group, content, place, rescale = Dataset(), Dataset(), Dataset(), Dataset()
        content.TemporalPositionIndex = 1 + frame // 3
        place.ImagePositionPatient = [-10, 20, 2.5 * (frame % 3)]
        rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 1 + frame, -100, "US"
        group.FrameContentSequence = [content]
        group.PlanePositionSequence = [place]
        group.PixelValueTransformationSequence = [rescale]
        dataset.PerFrameFunctionalGroupsSequence.append(group)
    for keyword in ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SliceThickness"):
        delattr(dataset, keyword)
    with tempfile.TemporaryDirectory() as folder:
        return save(dataset, Path(folder) / "x").read_bytes()


@cache
def series_files() -> dict[str, bytes]:
    """Two phases of four slices."""
    with tempfile.TemporaryDirectory() as folder:
        write_phases(Path(folder), 2, RescaleSlope=2, RescaleIntercept=-5)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


@cache
def nifti_file(kind: int) -> bytes:
    """Small files of four kinds: integers, scaled, several phases, colour."""
    random = np.random.default_rng(kind)
    shape = (7, 5, 3, 2) if kind == 2 else (7, 5, 3)
    stored = random.integers(-3000, 3000, size=shape).astype("f4" if kind == 1 else "i2")
    if kind == 3:
        stored = random.integers(0, 255, size=(7, 5, 3, 3), dtype=np.uint8).view([(c, "u1") for c in "RGB"])[..., 0]
    affine = np.array([[0, -2, 0.1, 3], [1.5, 0, 0, 5], [0, 0.1, 3, 7], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(stored, affine)
    image.set_qform(np.diag([1.5, 2, 3, 1]), code=1)
    return image.to_bytes()


@cache
def zip_file() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("CT_small.dcm", "MR_small.dcm"):
            archive.writestr(f"folder/{name}", dicom_file(name)[:20_000])
        archive.writestr("a/b.txt", b"text " * 999)
    return stream.getvalue()
