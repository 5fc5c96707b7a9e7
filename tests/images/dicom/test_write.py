"""Sample files: what is written is what is read, byte for byte the same each time, and valid."""

from __future__ import annotations

import io
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import get_frame
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from seqnorm_monai.images.dicom import RadiographHeader, write_radiograph, write_radiograph_jpeg
from tests.makers.dicom_files import COLUMNS, ROWS, ramp
from tests.makers.reading import read_radiograph

HEADER = RadiographHeader(
    patient_id="P1",
    study_uid="1.2.3.13",
    series_uid="1.2.3.17",
    sop_uid="1.2.3.19",
    view_position="PA",
    patient_sex="F",
    patient_age="045Y",
    pixel_spacing=(0.143, 0.139),
    series_description="sample",
)
LOSSLESS = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLSLossless,
    JPEG2000Lossless,
]


@pytest.mark.parametrize("transfer_syntax", LOSSLESS)
@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 12), (np.uint16, 16)])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_round_trip(tmp_path: Path, transfer_syntax: str, dtype: type, bits: int, photometric: str) -> None:
    pixels = ramp(bits).astype(dtype)
    path = tmp_path / "x.dcm"
    arguments: dict[str, Any] = {
        "bits_stored": bits,
        "photometric_interpretation": photometric,
        "transfer_syntax": transfer_syntax,
    }
    write_radiograph(path, pixels, HEADER, **arguments)
    radiograph = read_radiograph(path)
    np.testing.assert_array_equal(radiograph.pixels, pixels)
    assert radiograph.transfer_syntax_uid == transfer_syntax
    assert radiograph.photometric_interpretation == photometric
    assert (radiograph.spacing, radiograph.spacing_source) == ((0.143, 0.139), "ImagerPixelSpacing")
    assert radiograph.sop_instance_uid == "1.2.3.19"
    stored = dcmread(path).pixel_array
    np.testing.assert_array_equal(stored, 2**bits - 1 - pixels if photometric == "MONOCHROME1" else pixels)
    first = path.read_bytes()
    write_radiograph(path, pixels, HEADER, **arguments)
    assert path.read_bytes() == first
    _check_with_dciodvfy(path)


def test_lossy_jpeg_2000_says_so(tmp_path: Path) -> None:
    noise = np.random.default_rng(5).integers(0, 61, (211, 199))
    pixels = (np.add.outer(np.arange(211) * 12, np.arange(199) * 7) + noise).astype(np.uint16)
    path = tmp_path / "x.dcm"
    write_radiograph(path, pixels, HEADER, bits_stored=12, transfer_syntax=JPEG2000, j2k_ratio=7)
    dataset = dcmread(path)
    assert dataset.LossyImageCompression == "01"
    assert dataset.LossyImageCompressionMethod == "ISO_15444_1"
    assert float(dataset.LossyImageCompressionRatio) == pytest.approx(7, rel=0.1)
    difference = np.abs(read_radiograph(path).pixels - pixels)
    assert 0 < difference.max() < 61
    _check_with_dciodvfy(path)


def test_jpeg_is_kept_byte_for_byte(tmp_path: Path) -> None:
    pixels = np.add.outer(np.arange(ROWS) * 3, np.arange(COLUMNS) * 2).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=83)
    path = tmp_path / "x.dcm"
    write_radiograph_jpeg(path, buffer.getvalue(), replace(HEADER, view_position="", patient_sex="", patient_age=""))
    dataset = dcmread(path)
    assert get_frame(dataset.PixelData, 0, number_of_frames=1).rstrip(b"\0") == buffer.getvalue()
    assert dataset.LossyImageCompression == "01"
    assert dataset.LossyImageCompressionMethod == "ISO_10918_1"
    np.testing.assert_allclose(read_radiograph(path).pixels, np.asarray(Image.open(buffer)), atol=1)
    _check_with_dciodvfy(path)


def test_attributes(tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    write_radiograph(path, ramp(8).astype(np.uint8), HEADER)
    dataset = dcmread(path)
    assert (dataset.PatientID, dataset.PatientSex, dataset.PatientAge) == ("P1", "F", "045Y")
    assert (dataset.ViewPosition, dataset.BodyPartExamined, dataset.Modality) == ("PA", "CHEST", "CR")
    assert (dataset.StudyInstanceUID, dataset.SeriesInstanceUID) == ("1.2.3.13", "1.2.3.17")
    assert dataset.SeriesDescription == "sample"
    assert dataset.LossyImageCompression == "00"


@pytest.mark.parametrize(
    ("pixels", "arguments", "match"),
    [
        (np.zeros((3, 5, 7), np.uint8), {}, "pixels"),
        (np.zeros((3, 5), np.int16), {}, "pixels"),
        (np.zeros((0, 5), np.uint8), {}, "pixels"),
        (np.full((3, 5), 4096, np.uint16), {"bits_stored": 12}, "bits_stored=12"),
        (np.zeros((3, 5), np.uint8), {"bits_stored": 12}, "bits_stored"),
        (np.zeros((3, 5), np.uint8), {"photometric_interpretation": "RGB"}, "photometric_interpretation"),
        (np.zeros((3, 5), np.uint8), {"transfer_syntax": JPEG2000}, "j2k_ratio"),
        (np.zeros((3, 5), np.uint8), {"j2k_ratio": 5}, "j2k_ratio"),
    ],
)
def test_refused_arguments(tmp_path: Path, pixels: np.ndarray, arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        write_radiograph(tmp_path / "x.dcm", pixels, HEADER, **arguments)


def test_refused_streams(tmp_path: Path) -> None:
    gray, colour, progressive = io.BytesIO(), io.BytesIO(), io.BytesIO()
    Image.new("L", (37, 43), 7).save(gray, "JPEG")
    Image.new("RGB", (37, 43)).save(colour, "JPEG")
    Image.new("L", (37, 43)).save(progressive, "JPEG", progressive=True)
    for stream in (b"", b"\x89PNG", colour.getvalue(), progressive.getvalue(), gray.getvalue()[:-9]):
        with pytest.raises(ValueError, match="jpeg"):
            write_radiograph_jpeg(tmp_path / "x.dcm", stream, HEADER)


def _check_with_dciodvfy(path: Path) -> None:
    """The validator of dicom3tools, where it is installed."""
    program = shutil.which("dciodvfy")
    if program is None:
        return
    # It does not inflate.
    if dcmread(path).file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
        return
    output = subprocess.run([program, str(path)], capture_output=True, text=True, check=False).stderr
    assert "Error" not in output
    assert "CRImage" in output
