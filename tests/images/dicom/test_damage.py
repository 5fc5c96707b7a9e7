"""Cut-off, damaged and lying files: an image or a read error, never half an image, never the header in a log."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from seqnorm_monai.images.errors import ImageReadError
from tests.makers.dicom_files import ramp, refusal
from tests.makers.reading import read_radiograph

Make = Callable[..., Path]


def test_huge_sizes_take_no_memory(make_dicom: Make) -> None:
    native = make_dicom(ramp(12), Rows=65535, Columns=65535)
    assert "cut off" in refusal(native).reason
    for transfer_syntax in (RLELossless, JPEG2000Lossless):
        path = make_dicom(ramp(12))
        _compress(path, transfer_syntax)
        dataset = dcmread(path)
        dataset.Rows = dataset.Columns = 65535
        dataset.save_as(path)
        assert "pixels are claimed" in refusal(path).reason
        dataset.Rows = dataset.Columns = 16384
        dataset.save_as(path)
        reason = refusal(path).reason
        assert "pixels are claimed" in reason or "header says" in reason


def test_native_pixels_cut_off_anywhere(make_dicom: Make) -> None:
    path = make_dicom(ramp(12))
    data = path.read_bytes()
    for length in [*range(0, len(data), 61), *range(len(data) - 2 * 43 * 37 - 16, len(data), 37), len(data) - 1]:
        path.write_bytes(data[:length])
        refusal(path)


@pytest.mark.parametrize("transfer_syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_compressed_pixels_cut_off(make_dicom: Make, transfer_syntax: str) -> None:
    path = make_dicom(ramp(12))
    _compress(path, transfer_syntax)
    data = path.read_bytes()
    start = data.index(b"\xe0\x7f\x10\0OB")
    # The last 8 bytes are the delimiter, the 2 to 3 before it the end marker with its padding.
    for length in [*range(start + 12, len(data) - 12, 61), len(data) - 12]:
        path.write_bytes(data[:length])
        error = refusal(path)
        assert "cut off" in error.reason or "empty" in error.reason


@pytest.mark.parametrize("transfer_syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_stream_cut_off_before_it_was_wrapped(make_dicom: Make, transfer_syntax: str) -> None:
    path = make_dicom(ramp(12))
    _compress(path, transfer_syntax)
    dataset = dcmread(path)
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    dataset.PixelData = encapsulate([frame[: len(frame) * 2 // 3]])
    dataset.save_as(path)
    reason = refusal(path).reason
    assert "cut off" in reason or "cannot be decoded" in reason


def test_jpeg_cut_off_before_it_was_wrapped(make_dicom: Make) -> None:
    """A decoder fills what is missing with gray and says nothing."""
    buffer = io.BytesIO()
    pixels = ramp(8).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    half = buffer.getvalue()[: len(buffer.getvalue()) * 2 // 3]
    path = make_dicom(pixels, bits_allocated=8, bits_stored=8, transfer_syntax=JPEGBaseline8Bit, pixel_data=half)
    assert refusal(path).reason == "the compressed pixel data are cut off: no end marker"


def test_header_and_stream_disagree(make_dicom: Make) -> None:
    path = make_dicom(ramp(12))
    _compress(path, JPEG2000Lossless)
    dataset = dcmread(path)
    smaller = copy.deepcopy(dataset)
    smaller.Rows = 41
    smaller.save_as(path)
    assert "43 x 37, its header says 41 x 37" in refusal(path).reason
    dataset.BitsStored, dataset.HighBit = 10, 9
    dataset.save_as(path)
    assert "do not fit BitsStored 10" in refusal(path).reason


def test_colour_stream_under_a_grayscale_header(make_dicom: Make) -> None:
    colour = dcmread(get_testdata_file("SC_rgb_jpeg_dcmtk.dcm", download=False))
    colour.SamplesPerPixel, colour.PhotometricInterpretation = 1, "MONOCHROME2"
    path = make_dicom(ramp(12))
    colour.save_as(path)
    assert "3 colour components" in refusal(path).reason


def test_transfer_syntax_and_pixel_data_disagree(make_dicom: Make) -> None:
    native = make_dicom(ramp(8), bits_allocated=8, bits_stored=8)
    data = native.read_bytes()
    assert data.count(b"1.2.840.10008.1.2.1\0") == 1
    native.write_bytes(data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"))
    assert "native pixel data under the transfer syntax RLE" in refusal(native).reason
    compressed = make_dicom(ramp(12))
    _compress(compressed, RLELossless)
    data = compressed.read_bytes()
    compressed.write_bytes(data.replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.1\0"))
    assert "compressed pixel data under the transfer syntax Explicit" in refusal(compressed).reason
    compressed.write_bytes(data.replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.9.9.9\0"))
    assert "unknown TransferSyntaxUID" in refusal(compressed).reason


def test_garbage_instead_of_a_stream(make_dicom: Make) -> None:
    path = make_dicom(ramp(8), bits_allocated=8, bits_stored=8, transfer_syntax=JPEGBaseline8Bit, pixel_data=b"\7" * 99)
    assert "do not start with" in refusal(path).reason


def test_more_frames_than_the_header_says(make_dicom: Make) -> None:
    path = make_dicom(ramp(12))
    _compress(path, JPEG2000Lossless)
    dataset = dcmread(path)
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    dataset.PixelData = encapsulate([frame, frame])
    dataset.save_as(path)
    assert "one frame, but 2 in the offset table" in refusal(path).reason


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_damaged_headers_give_an_image_or_a_read_error(make_dicom: Make, data: st.DataObject) -> None:
    path = make_dicom(ramp(12), RescaleSlope="1", RescaleIntercept="0", PixelPaddingValue=7)
    content = bytearray(path.read_bytes())
    end = len(content) - 2 * 43 * 37
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(132, end))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        radiograph = read_radiograph(path, apply_voi=True)
    except ImageReadError:
        return
    assert radiograph.pixels.dtype == np.float32
    assert np.isfinite(radiograph.pixels).all()


@pytest.mark.parametrize("element", [b"\x02\0\x10\0UI", b"\x08\0\x16\0UI"])
def test_no_header_value_reaches_a_log(make_dicom: Make, caplog: pytest.LogCaptureFixture, element: bytes) -> None:
    """A wrong length makes one element swallow the next ones, the patient's name among them."""
    path = make_dicom(ramp(12))
    data = bytearray(path.read_bytes())
    position = data.index(element)
    data[position + 6 : position + 8] = b"\xf0\0"
    path.write_bytes(bytes(data))
    caplog.set_level("DEBUG")
    refusal(path)
    assert "Secret" not in caplog.text


def _compress(path: Path, transfer_syntax: str) -> None:
    dataset = dcmread(path)
    # GDCM's RLE encoder aborts the process on an odd number of pixels.
    plugin = "pydicom" if transfer_syntax == RLELossless else ""
    dataset.compress(transfer_syntax, encoding_plugin=plugin, generate_instance_uid=False)
    dataset.save_as(path)
