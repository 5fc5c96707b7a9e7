"""Every transfer syntax gives the stored values, whatever the cells hold beside them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from tests.makers.dicom_files import COLUMNS, ROWS, native_bytes, ramp
from tests.makers.reading import read_radiograph

Make = Callable[..., Path]
NATIVE = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
SHAPES = [(8, 8), (8, 7), (16, 10), (16, 12), (16, 16), (32, 20)]

# (r * 331 + c * 173 + (r * c) % 7 * 29) % 4096 of 13 x 11, encoded reversibly by OpenJPH 0.26.3.
HTJ2K_STREAM = base64.b64decode(
    "/0//UQApQAAAAAALAAAADQAAAAAAAAAAAAAACwAAAA0AAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCIkJCQkJCQkJCQ"
    "kJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAATgAAf+TwAAmM/IFB3QAAMAAE0AAE0AAEwCe/AKHdADw/QMHdAAf+QOHdADA"
    "ABPAABVQAATgx2r8AgN0AK1zhVAXmwDjlACvpWQDi3QAwAAWtAABasAAFqBGMv4NaJdRIDjJtEpttgJ/0jABvZgARlhq+aAGeHBCMl3xADCL/kEB"
    "v5kA/uQlPwmCJSSzl5jkHEv+UIG9mADAAC7OAAF2cAALp1lMWcbGDAyGSZIvycsYDBdgOBv5GGh+STIXJFPA/s+SZCoAgXWzRPQSKZ44OEPwRDhR"
    "AXGGgWFgy0x5Y0thcjJzwQCzqASakeFs0E4zLqx8lSDDlwCTZOAAAAAgRCVAghEIImheAGVlKl+WgRnzsgyZDP9JoWaTZskAJjB/yQF+FB/tpnV3"
    "jE8IQKRfAP/Z"
)


@pytest.mark.parametrize("transfer_syntax", NATIVE)
@pytest.mark.parametrize(("allocated", "stored"), SHAPES)
@pytest.mark.parametrize("signed", [False, True])
def test_native(make_dicom: Make, transfer_syntax: str, allocated: int, stored: int, signed: bool) -> None:
    values = ramp(stored, signed=signed)
    path = make_dicom(
        values, bits_allocated=allocated, bits_stored=stored, signed=signed, transfer_syntax=transfer_syntax
    )
    radiograph = read_radiograph(path)
    assert radiograph.pixels.dtype == np.float32
    assert radiograph.transfer_syntax_uid == transfer_syntax
    np.testing.assert_array_equal(radiograph.pixels, values)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("high_bit", [11, 13, 15])
@pytest.mark.parametrize("transfer_syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
def test_bits_outside_the_stored_ones_are_junk(
    make_dicom: Make, high_bit: int, signed: bool, transfer_syntax: str
) -> None:
    values = ramp(12, signed=signed)
    shift = high_bit - 11
    mask = 0xFFF << shift
    junk = np.random.default_rng(3).integers(0, 2**16, values.shape)
    cells = ((values & 0xFFF) << shift & mask) | (junk & ~mask & 0xFFFF)
    if transfer_syntax == RLELossless:
        path = make_dicom(cells, bits_stored=16, signed=signed, HighBit=high_bit)
        _compress(path, RLELossless)
        dataset = dcmread(path)
        dataset.BitsStored = 12
        dataset.save_as(path)
    else:
        path = make_dicom(cells, signed=signed, HighBit=high_bit, transfer_syntax=transfer_syntax)
    np.testing.assert_array_equal(read_radiograph(path).pixels, values)


def test_eight_bit_cells_in_big_endian_words(make_dicom: Make) -> None:
    values = ramp(8)
    swapped = np.frombuffer(native_bytes(values, 8), "<u2").astype(">u2").tobytes()
    path = make_dicom(values, bits_allocated=8, bits_stored=8, transfer_syntax=ExplicitVRBigEndian, pixel_data=swapped)
    # The value representation tells words from bytes.
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\x7f\xe0\0\x10OB", b"\x7f\xe0\0\x10OW"))
    np.testing.assert_array_equal(read_radiograph(path).pixels, values)


@pytest.mark.parametrize("transfer_syntax", NATIVE[:3])
def test_without_preamble_and_meta_information(make_dicom: Make, transfer_syntax: str) -> None:
    values = ramp(12)
    path = make_dicom(values, transfer_syntax=transfer_syntax)
    dataset = dcmread(path)
    length = 144 + dataset.file_meta.FileMetaInformationGroupLength
    path.write_bytes(path.read_bytes()[length:])
    radiograph = read_radiograph(path)
    np.testing.assert_array_equal(radiograph.pixels, values)
    assert radiograph.transfer_syntax_uid == ""


@pytest.mark.parametrize("transfer_syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize(("allocated", "stored"), SHAPES[:5])
@pytest.mark.parametrize("signed", [False, True])
def test_lossless_by_pydicom(make_dicom: Make, transfer_syntax: str, allocated: int, stored: int, signed: bool) -> None:
    values = ramp(stored, signed=signed)
    path = make_dicom(values, bits_allocated=allocated, bits_stored=stored, signed=signed)
    _compress(path, transfer_syntax)
    np.testing.assert_array_equal(read_radiograph(path).pixels, values)


def test_jpeg_ls_near_lossless_stays_within_its_bound(make_dicom: Make) -> None:
    values = ramp(12)
    path = make_dicom(values)
    _compress(path, JPEGLSNearLossless, jls_error=3)
    difference = np.abs(read_radiograph(path).pixels - values)
    assert 0 < difference.max() <= 3


@pytest.mark.parametrize("process", ["JPEGLosslessProcess14", "JPEGLosslessProcess14_1"])
@pytest.mark.parametrize(("allocated", "stored"), [(8, 8), (16, 12), (16, 16)])
@pytest.mark.parametrize("signed", [False, True])
def test_jpeg_lossless_by_gdcm(make_dicom: Make, process: str, allocated: int, stored: int, signed: bool) -> None:
    # GDCM does not encode 8-bit images with an odd number of pixels.
    values = ramp(stored, signed=signed)[: ROWS - (allocated == 8)]
    path = make_dicom(values, bits_allocated=allocated, bits_stored=stored, signed=signed)
    compressed = _change_transfer_syntax(path, process)
    radiograph = read_radiograph(compressed)
    assert radiograph.transfer_syntax_uid in ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
    np.testing.assert_array_equal(radiograph.pixels, values)


def test_jpeg_lossless_of_wider_samples_than_stored(make_dicom: Make) -> None:
    """A stream of 16-bit samples under BitsStored 12 is common and harmless."""
    values = ramp(12)
    path = _change_transfer_syntax(make_dicom(values, bits_stored=16), "JPEGLosslessProcess14_1")
    dataset = dcmread(path)
    dataset.BitsStored, dataset.HighBit, dataset.PhotometricInterpretation = 12, 11, "MONOCHROME1"
    dataset.save_as(path)
    np.testing.assert_array_equal(read_radiograph(path).pixels, 4095 - values)


@pytest.mark.parametrize("allocated", [8, 16])
def test_jpeg_baseline_against_pillow(make_dicom: Make, allocated: int) -> None:
    smooth = np.add.outer(np.arange(ROWS) * 3, np.arange(COLUMNS) * 2).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(smooth).save(buffer, "JPEG", quality=91)
    path = make_dicom(
        smooth,
        bits_allocated=allocated,
        bits_stored=8,
        transfer_syntax=JPEGBaseline8Bit,
        pixel_data=buffer.getvalue(),
    )
    expected = np.asarray(Image.open(buffer)).astype(np.float32)
    # The inverse cosine transform is specified to +-1 only.
    np.testing.assert_allclose(read_radiograph(path).pixels, expected, atol=1)


def test_jpeg_extended_of_12_bits() -> None:
    """A shipped file whose samples were read with another decoder (dcmdjpeg of dcmtk 3.6.7)."""
    pixels = read_radiograph(get_testdata_file("JPGExtended.dcm", download=False)).pixels
    assert pixels.shape == (1024, 256)
    assert pixels.sum(dtype=np.float64) == 3767007
    assert [pixels[420, 140], pixels[230, 120], pixels[101, 47]] == [244, 95, 1]


def test_jpeg_2000_lossy() -> None:
    """A shipped file whose samples were read with another decoder (ITK 5.4.7)."""
    pixels = read_radiograph(get_testdata_file("JPEG2000.dcm", download=False)).pixels
    assert (pixels.min(), pixels.max(), pixels.sum(dtype=np.float64)) == (-30, 245, 3527976)
    assert [pixels[420, 140], pixels[230, 120], pixels[101, 47]] == [222, 95, 0]


def test_jpeg_2000_whose_sign_disagrees_with_the_header() -> None:
    pixels = read_radiograph(get_testdata_file("J2K_pixelrep_mismatch.dcm", download=False)).pixels
    assert (pixels.min(), pixels.max()) == (-2000, 1896)


def test_htj2k(make_dicom: Make) -> None:
    r, c = np.mgrid[0:13, 0:11]
    values = (r * 331 + c * 173 + (r * c) % 7 * 29) % 4096
    path = make_dicom(values, bits_stored=16, transfer_syntax=HTJ2KLossless, pixel_data=HTJ2K_STREAM)
    np.testing.assert_array_equal(read_radiograph(path).pixels, values)


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_expb.dcm",
        "MR_small_implicit.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_padded.dcm",
    ],
)
def test_one_image_in_many_encodings(name: str) -> None:
    reference = dcmread(get_testdata_file("MR_small.dcm", download=False))
    expected = np.frombuffer(reference.PixelData, "<i2").reshape(64, 64)
    np.testing.assert_array_equal(read_radiograph(get_testdata_file(name, download=False)).pixels, expected)


def test_several_fragments(make_dicom: Make) -> None:
    values = ramp(12)
    path = _change_transfer_syntax(make_dicom(values), "JPEGLosslessProcess14_1")
    dataset = dcmread(path)
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    dataset.PixelData = encapsulate([frame], fragments_per_frame=3, has_bot=False)
    dataset.save_as(path)
    np.testing.assert_array_equal(read_radiograph(path).pixels, values)


@pytest.mark.parametrize("transfer_syntax", [JPEGLosslessSV1, RLELossless])
def test_missing_sequence_delimiter_after_a_whole_frame(make_dicom: Make, transfer_syntax: str) -> None:
    values = ramp(12)
    path = make_dicom(values)
    if transfer_syntax == RLELossless:
        _compress(path, RLELossless)
    else:
        path = _change_transfer_syntax(path, "JPEGLosslessProcess14_1")
    data = path.read_bytes()
    assert data.endswith(b"\xfe\xff\xdd\xe0\0\0\0\0")
    path.write_bytes(data[:-8])
    np.testing.assert_array_equal(read_radiograph(path).pixels, values)


def _compress(path: Path, transfer_syntax: str, *, jls_error: int | None = None) -> None:
    # GDCM's RLE encoder, the first of pydicom's choices, aborts the process on an odd number of pixels.
    plugin = "pydicom" if transfer_syntax == RLELossless else ""
    dataset = dcmread(path)
    dataset.compress(transfer_syntax, encoding_plugin=plugin, generate_instance_uid=False, jls_error=jls_error)
    dataset.save_as(path)


def _change_transfer_syntax(path: Path, name: str) -> Path:
    gdcm = pytest.importorskip("gdcm")
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, name)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return path
