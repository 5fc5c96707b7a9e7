"""Compressed frames that differ from their header in depth, or have much behind their end."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from openjpeg.utils import encode_array
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import HTJ2K, JPEG2000, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSNearLossless

from seqnorm_monai.images.dicom.pixels.codestream import has_end_marker
from seqnorm_monai.images.dicom.series import read_studies
from seqnorm_monai.images.sources import SourceFile
from tests.makers.dicom_files import ramp, refusal
from tests.makers.reading import load_volume, read_radiograph

imagecodecs = pytest.importorskip("imagecodecs", reason="needs imagecodecs to encode")
Make = Callable[..., Path]
SMOOTH = (np.add.outer(np.arange(43) * 40, np.arange(37) * 60)).astype(np.uint16)
ENCODERS = {
    "JPEG 2000": (JPEG2000, lambda values: encode_array(values, bits_stored=12)),
    "JPEG-LS": (JPEGLSNearLossless, lambda values: imagecodecs.jpegls_encode(values, level=1)),
    "HTJ2K": (HTJ2K, lambda values: imagecodecs.htj2k_encode(values, reversible=True)),
}


@pytest.mark.parametrize("codec", ENCODERS)
def test_a_lossy_stream_deeper_than_bits_stored(make_dicom: Make, codec: str) -> None:
    syntax, encode = ENCODERS[codec]
    path = make_dicom(SMOOTH, bits_stored=10, transfer_syntax=syntax, pixel_data=encode(SMOOTH))
    assert "do not fit BitsStored 10" in refusal(path).reason


def test_a_deeper_lossless_stream(make_dicom: Make) -> None:
    frame = encode_array(SMOOTH, bits_stored=12)
    path = make_dicom(SMOOTH, bits_stored=10, transfer_syntax=JPEG2000Lossless, pixel_data=frame)
    assert "do not fit BitsStored 10" in refusal(path).reason


@pytest.mark.parametrize("top", [1023, 1060])
def test_a_deeper_stream_that_does_not_use_its_bits(make_dicom: Make, top: int) -> None:
    """What goes a little beyond is an overshoot, and is clipped."""
    values = np.minimum(SMOOTH, 1000)
    values[3:5, 3:20] = top
    frame = encode_array(values, bits_stored=12)
    path = make_dicom(values, bits_stored=10, transfer_syntax=JPEG2000, pixel_data=frame)
    np.testing.assert_array_equal(read_radiograph(path).pixels, np.minimum(values, 1023))


def jpeg(values: np.ndarray) -> bytes:
    stream = BytesIO()
    Image.fromarray(values).save(stream, "JPEG", quality=95)
    return stream.getvalue()


BEHIND = [b"\0" * 66, b"\0" * 5000, bytes(range(1, 250)) * 9, b"\xff" * 300]


@pytest.mark.parametrize("behind", BEHIND, ids=["zeros", "many zeros", "bytes", "fill bytes"])
@pytest.mark.parametrize("codec", ["JPEG", "JPEG 2000", "JPEG-LS"])
def test_bytes_behind_the_end(make_dicom: Make, codec: str, behind: bytes) -> None:
    """Of one frame, and of two whose fragments nothing but their streams puts together."""
    if codec == "JPEG":
        values = ramp(8).astype(np.uint8)
        syntax, frame, bits = JPEGBaseline8Bit, jpeg(values), 8
    else:
        values, bits = SMOOTH, 12
        syntax, encode = ENCODERS[codec]
        frame = encode(values)
    plain = {"bits_allocated": 8 if bits == 8 else 16, "bits_stored": bits, "transfer_syntax": syntax}
    expected = read_radiograph(make_dicom(values, pixel_data=frame, **plain)).pixels
    np.testing.assert_array_equal(
        read_radiograph(make_dicom(values, pixel_data=frame + behind, **plain)).pixels, expected
    )
    cut = make_dicom(values, pixel_data=frame[: len(frame) // 2] + behind, **plain)
    assert "no end marker" in refusal(cut).reason


def test_fragments_with_bytes_behind_the_end(make_dicom: Make) -> None:
    values = ramp(8).astype(np.uint8)
    frames = [jpeg(values) + b"\0" * 500, jpeg(values[::-1]) + b"\0" * 501]
    half = len(frames[0]) // 4 * 2
    pieces = [frames[0][:half], frames[0][half:], frames[1][:half], frames[1][half:]]
    path = make_dicom(
        values,
        bits_allocated=8,
        bits_stored=8,
        transfer_syntax=JPEGBaseline8Bit,
        pixel_data=frames[0],
        NumberOfFrames=2,
    )
    whole = path.read_bytes()
    start = whole.index(encapsulate([frames[0]])[:8])
    path.write_bytes(whole[:start] + encapsulate(pieces, has_bot=False) + b"\xfe\xff\xdd\xe0\0\0\0\0")
    (volume,) = read_studies([SourceFile("a", path)]).volumes
    first, second = np.moveaxis(load_volume(volume)[0].numpy(), -1, 0)
    assert np.abs(first.T - values).mean() < 40 and np.abs(second.T - values[::-1]).mean() < 40
    assert not np.array_equal(first, second)


def test_an_end_marker_in_the_header_ends_nothing() -> None:
    """That of a small picture in an application segment."""
    frame = jpeg(ramp(8).astype(np.uint8))
    picture = b"\xff\xe1" + (2 + len(frame)).to_bytes(2, "big") + frame
    whole = frame[:2] + picture + frame[2:] + b"\0" * 99
    assert has_end_marker(whole)
    assert not has_end_marker(whole[: -99 - len(frame) // 2] + b"\0" * 99)
