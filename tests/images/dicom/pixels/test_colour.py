"""Colour in every storage variant: RGB as it was drawn, whatever the stream and the header call it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.pixels import convert_color_space
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from seqnorm_monai.images.dicom.pixels import decoders
from seqnorm_monai.images.dicom.pixels.colour import ybr_to_rgb
from tests.makers.colour_files import colours, read_image, refused, write_image

imagecodecs = pytest.importorskip("imagecodecs", reason="needs imagecodecs to encode")


def to_ybr(rgb: np.ndarray, bits: int = 8) -> np.ndarray:
    """PS3.3 section C.7.6.3.1.2, written out."""
    r, g, b = (rgb[..., channel].astype(np.float64) for channel in range(3))
    half = 2 ** (bits - 1)
    channels = (
        0.299 * r + 0.587 * g + 0.114 * b,
        -0.168736 * r - 0.331264 * g + 0.5 * b + half,
        0.5 * r - 0.418688 * g - 0.081312 * b + half,
    )
    return np.clip(np.stack(channels, -1).round(), 0, 2**bits - 1).astype(rgb.dtype)


def worst(found: np.ndarray, expected: np.ndarray) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found - expected.astype(np.float64)).max())


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_native(tmp_path: Path, syntax: UID, photometric: str, planar: int, bits: int) -> None:
    drawn = colours(bits, 3)
    stored = to_ybr(drawn, bits) if photometric == "YBR_FULL" else drawn
    if planar:
        stored = stored.transpose(0, 3, 1, 2)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    data = stored.astype(stored.dtype.newbyteorder(order)).tobytes()
    path = write_image(
        tmp_path / "x.dcm", drawn.shape, data, syntax, bits=bits, photometric=photometric, PlanarConfiguration=planar
    )
    assert worst(read_image(path), drawn) <= (0 if photometric == "RGB" else 2)
    if photometric == "YBR_FULL" and bits == 8 and not planar:
        np.testing.assert_array_equal(read_image(path), convert_color_space(stored, "YBR_FULL", "RGB"))


@pytest.mark.parametrize("bits", [8, 10, 16])
def test_ybr_to_rgb_is_rounded_once(bits: int) -> None:
    """Values all over the range, those outside of RGB too."""
    ybr = np.random.default_rng(bits).integers(0, 2**bits, (200, 300, 3))
    y, cb, cr = ybr[..., 0], ybr[..., 1] - 2.0 ** (bits - 1), ybr[..., 2] - 2.0 ** (bits - 1)
    red, blue = y + 1.402 * cr, y + 1.772 * cb
    green = y - 0.114 * 1.772 / 0.587 * cb - 0.299 * 1.402 / 0.587 * cr
    exact = np.clip(np.stack([red, green, blue], -1), 0, 2**bits - 1)
    found = ybr_to_rgb(ybr.astype(np.uint8 if bits == 8 else np.uint16), bits)
    assert np.abs(found - exact).max() <= 0.5 + 1e-4


def jpeg(rgb: np.ndarray, how: str) -> bytes:
    """`how`: what the stream says of itself and what it is, see CASES."""
    if how == "JFIF":
        return imagecodecs.jpeg8_encode(rgb, level=98, subsampling="444")
    if how == "JFIF 422":
        return imagecodecs.jpeg8_encode(rgb, level=98, subsampling="422")
    if how == "JFIF 420":
        return imagecodecs.jpeg8_encode(rgb, level=98, subsampling="420")
    if how == "Adobe RGB":
        return imagecodecs.jpeg8_encode(rgb, level=98, colorspace="RGB", outcolorspace="RGB")
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64" + bytes(4)
    if how == "Adobe YBR":
        return b"\xff\xd8" + adobe + b"\1" + without_marker(jpeg(rgb, "JFIF"), 0xE0)[2:]
    if how == "ids RGB":
        return without_marker(jpeg(rgb, "Adobe RGB"), 0xEE)
    if how == "nothing, YBR":
        return without_marker(jpeg(rgb, "JFIF"), 0xE0)
    if how == "nothing, RGB":
        return with_ids(jpeg(rgb, "ids RGB"), b"RGB", b"\1\2\3")
    if how == "ids rgb":
        return with_ids(jpeg(rgb, "ids RGB"), b"RGB", b"rgb")
    if how == "Adobe RGB, ids 123":
        return with_ids(jpeg(rgb, "Adobe RGB"), b"RGB", b"\1\2\3")
    if how == "short Adobe":
        return b"\xff\xd8\xff\xee\x00\x0cAdobe" + bytes(5) + jpeg(rgb, "nothing, RGB")[2:]
    assert how == "both"
    return b"\xff\xd8" + adobe + b"\0" + jpeg(rgb, "JFIF")[2:]


def without_marker(stream: bytes, marker: int) -> bytes:
    start = stream.index(bytes([0xFF, marker]))
    return stream[:start] + stream[start + 2 + int.from_bytes(stream[start + 2 : start + 4], "big") :]


def with_ids(stream: bytes, old: bytes, new: bytes) -> bytes:
    """Other names of the components in the headers of frame and scan."""
    data = bytearray(stream)
    frame = next(data.index(bytes([0xFF, sof])) for sof in (0xC0, 0xC1, 0xC3) if bytes([0xFF, sof]) in data)
    scan = data.index(b"\xff\xda")
    for place, step in ((frame + 10, 3), (scan + 5, 2)):
        for component in range(3):
            assert data[place + component * step] == old[component]
            data[place + component * step] = new[component]
    return bytes(data)


# what the stream says and is, what its header says
CASES = [
    *[(how, header) for how in ("JFIF", "JFIF 422", "Adobe YBR") for header in ("YBR_FULL_422", "YBR_FULL", "RGB")],
    *[("JFIF 420", header) for header in ("YBR_FULL_422", "RGB")],
    *[
        (how, header)
        for how in ("Adobe RGB", "Adobe RGB, ids 123", "ids RGB", "ids rgb")
        for header in ("RGB", "YBR_FULL_422", "YBR_FULL")
    ],
    ("nothing, YBR", "YBR_FULL_422"),
    ("nothing, YBR", "YBR_FULL"),
    ("nothing, RGB", "RGB"),
    ("short Adobe", "RGB"),
]


@pytest.mark.parametrize("stand_in", [False, True])
@pytest.mark.parametrize(("how", "photometric"), CASES)
def test_jpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, photometric: str, stand_in: bool) -> None:
    """The stream knows better than the header; the header is asked where the stream says nothing."""
    drawn = colours(8, 2)
    path = write_image(
        tmp_path / "x.dcm",
        drawn.shape,
        [jpeg(frame, how) for frame in drawn],
        JPEGBaseline8Bit,
        photometric=photometric,
    )
    if stand_in:
        monkeypatch.setattr(decoders, "by_pillow", failing)
    found = read_image(path)
    # corners are the one place with sharp edges, where chroma of neighbours is mixed
    inner = (slice(None), slice(2, -2), slice(2, -2))
    assert worst(found[inner], drawn[inner]) <= 12
    if how in ("JFIF", "JFIF 422", "JFIF 420", "Adobe YBR", "Adobe RGB"):
        expected = np.stack([np.asarray(Image.open(io.BytesIO(jpeg(frame, how)))) for frame in drawn])
        assert worst(found, expected) <= 1


def failing(*_: object) -> None:
    raise RuntimeError


def test_a_stream_that_says_two_things_is_refused(tmp_path: Path) -> None:
    drawn = colours()
    path = write_image(
        tmp_path / "x.dcm", drawn.shape, [jpeg(drawn[0], "both")], JPEGBaseline8Bit, photometric="YBR_FULL_422"
    )
    assert "colour space" in refused(path)


def rle(frame: np.ndarray) -> bytes:
    return RLELosslessEncoder.encode(
        frame,
        rows=frame.shape[0],
        columns=frame.shape[1],
        samples_per_pixel=3,
        planar_configuration=0,
        number_of_frames=1,
        pixel_representation=0,
        bits_allocated=8 * frame.itemsize,
        bits_stored=8 * frame.itemsize,
        photometric_interpretation="RGB",
        # GDCM ends the process over 16 bits
        encoding_plugin="pydicom",
    )


LOSSLESS = {
    "JPEG-LS": (JPEGLSLossless, imagecodecs.jpegls_encode),
    "JPEG 2000": (
        JPEG2000Lossless,
        lambda a: imagecodecs.jpeg2k_encode(a, level=0, reversible=True, mct=False, codecformat="j2k"),
    ),
    "HTJ2K": (HTJ2KLossless, lambda a: imagecodecs.htj2k_encode(a, reversible=True, rgb=False)),
    "HTJ2K RPCL": (HTJ2KLosslessRPCL, lambda a: imagecodecs.htj2k_encode(a, reversible=True, rgb=False)),
    "RLE": (RLELossless, rle),
    "JPEG lossless": (JPEGLossless, lambda a: lossless_jpeg(a, 5)),
    "JPEG lossless SV1": (JPEGLosslessSV1, lambda a: lossless_jpeg(a, 1)),
}


def lossless_jpeg(values: np.ndarray, predictor: int) -> bytes:
    """Process 14 with components 1, 2, 3 and no word of their colours, as DICOM writers have it."""
    stream = imagecodecs.jpeg8_encode(
        values,
        lossless=True,
        predictor=predictor,
        colorspace="RGB",
        outcolorspace="RGB",
        bitspersample=8 * values.itemsize,
    )
    return with_ids(without_marker(stream, 0xEE), b"RGB", b"\1\2\3")


@pytest.mark.parametrize("stand_in", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, photometric: str, bits: int, stand_in: bool
) -> None:
    syntax, encode = LOSSLESS[name]
    drawn = colours(bits, 2)
    stored = to_ybr(drawn, bits) if photometric == "YBR_FULL" else drawn
    path = write_image(
        tmp_path / "x.dcm",
        drawn.shape,
        [encode(frame) for frame in stored],
        syntax,
        bits=bits,
        photometric=photometric,
        PlanarConfiguration=1 if name == "RLE" else 0,
    )
    if stand_in:
        monkeypatch.setattr(decoders, "by_pydicom", failing)
        if name == "RLE":
            assert "RLE" in refused(path)
            return
    assert worst(read_image(path), drawn) <= (0 if photometric == "RGB" else 2)


def test_rle_of_lying_headers(tmp_path: Path) -> None:
    """Samples that do not fill their cells, cells of another size, and pixels that these bytes hold of grey only."""
    drawn = colours(16)
    for attributes, reason in (
        ({"bits": 12}, "16 bits, BitsStored is 12"),
        ({"bits": 8}, "6 segments instead of 3"),
        ({"bits": 16, "Rows": 512, "Columns": 400}, "too few compressed bytes"),
    ):
        path = write_image(tmp_path / "x.dcm", drawn.shape, [rle(drawn[0])], RLELossless, **attributes)
        assert reason in refused(path)


@pytest.mark.parametrize("photometric", ["RGB", "YBR_RCT"])
@pytest.mark.parametrize("name", ["JPEG 2000", "HTJ2K"])
def test_reversible_transform(tmp_path: Path, name: str, photometric: str) -> None:
    """The stream says that its components were transformed, and every decoder undoes it."""
    drawn = colours(8, 2)
    if name == "HTJ2K":
        encoded = [imagecodecs.htj2k_encode(frame, reversible=True, rgb=True) for frame in drawn]
    else:
        encoded = [imagecodecs.jpeg2k_encode(frame, level=0, reversible=True, codecformat="j2k") for frame in drawn]
    path = write_image(tmp_path / "x.dcm", drawn.shape, encoded, LOSSLESS[name][0], photometric=photometric)
    np.testing.assert_array_equal(read_image(path), drawn)


def test_irreversible_transform(tmp_path: Path) -> None:
    drawn = colours(8, 2)
    encoded = [imagecodecs.jpeg2k_encode(frame, level=50, reversible=False, codecformat="j2k") for frame in drawn]
    path = write_image(tmp_path / "x.dcm", drawn.shape, encoded, JPEG2000, photometric="YBR_ICT")
    assert 0 < worst(read_image(path), drawn) <= 16
    expected = np.stack([imagecodecs.jpeg2k_decode(frame) for frame in encoded])
    assert worst(read_image(path), expected) <= 1


@pytest.mark.parametrize(("transformed", "photometric"), [(True, "YBR_FULL"), (False, "YBR_RCT"), (False, "YBR_ICT")])
def test_a_transform_that_header_and_stream_tell_apart(tmp_path: Path, transformed: bool, photometric: str) -> None:
    """What the colours are then, nobody can know."""
    drawn = colours()
    stream = imagecodecs.jpeg2k_encode(drawn[0], level=0, reversible=True, mct=transformed, codecformat="j2k")
    path = write_image(tmp_path / "x.dcm", drawn.shape, [stream], JPEG2000Lossless, photometric=photometric)
    assert "colour transform" in refused(path)


def test_boxes_around_a_codestream_are_not_asked(tmp_path: Path) -> None:
    """A JP2 file within DICOM names a colour space, from which OpenJPEG would convert on its own."""
    drawn = colours()
    stream = imagecodecs.jpeg2k_encode(
        to_ybr(drawn[0]), level=0, reversible=True, mct=False, codecformat="jp2", colorspace="SYCC"
    )
    assert stream[4:8] == b"jP  "
    path = write_image(tmp_path / "x.dcm", drawn.shape, [stream], JPEG2000Lossless, photometric="YBR_FULL")
    assert worst(read_image(path), drawn) <= 2


def test_near_lossless(tmp_path: Path) -> None:
    drawn = colours(8, 2)
    encoded = [imagecodecs.jpegls_encode(frame, level=2) for frame in drawn]
    path = write_image(tmp_path / "x.dcm", drawn.shape, encoded, JPEGLSNearLossless)
    assert 0 < worst(read_image(path), drawn) <= 2


def test_native_422(tmp_path: Path) -> None:
    """Two neighbours in a row share one colour."""
    drawn = np.repeat(colours(8, 3, columns=21), 2, axis=2)
    ybr = to_ybr(drawn)
    stored = np.stack([ybr[:, :, 0::2, 0], ybr[:, :, 1::2, 0], ybr[:, :, 0::2, 1], ybr[:, :, 0::2, 2]], -1)
    path = write_image(
        tmp_path / "x.dcm", drawn.shape, stored.tobytes(), ExplicitVRLittleEndian, photometric="YBR_FULL_422"
    )
    assert worst(read_image(path), drawn) <= 2
    np.testing.assert_array_equal(read_image(path), convert_color_space(ybr, "YBR_FULL", "RGB"))


@pytest.mark.parametrize("photometric", ["YBR_PARTIAL_422", "YBR_PARTIAL_420", "HSV", "ARGB", "CMYK", "MONOCHROME2"])
def test_other_spaces_are_refused_by_name(tmp_path: Path, photometric: str) -> None:
    drawn = colours()
    path = write_image(
        tmp_path / "x.dcm", drawn.shape, drawn.tobytes(), ExplicitVRLittleEndian, photometric=photometric
    )
    assert photometric in refused(path)


@pytest.mark.parametrize("name", ["JPEG-LS", "JPEG 2000", "HTJ2K", "JPEG lossless", "baseline"])
def test_streams_of_another_shape_are_refused(tmp_path: Path, name: str) -> None:
    """Another size, fewer components, or cut off: before a decoder gets them."""
    syntax, encode = LOSSLESS.get(name, (JPEGBaseline8Bit, lambda a: jpeg(a, "JFIF") if a.ndim == 3 else b""))
    drawn = colours()
    whole = encode(drawn[0])
    photometric = "YBR_FULL_422" if name == "baseline" else "RGB"
    another = "the compressed image is 35 x 43, its header says 37 x 43"
    for stream, reason in ((encode(drawn[0, :-2]), another), (whole[:-200], "cut off")):
        path = write_image(tmp_path / "x.dcm", drawn.shape, [stream], syntax, photometric=photometric)
        assert reason in refused(path)
    if name in ("JPEG-LS", "JPEG 2000"):
        path = write_image(tmp_path / "x.dcm", drawn.shape, [encode(drawn[0, ..., 0])], syntax)
        assert "component" in refused(path)
    if name == "JPEG 2000":
        # vertical sampling of the last component, behind SOC, SIZ, 38 bytes and two components
        sampled = bytearray(whole)
        sampled[4 + 38 + 8] = 2
        path = write_image(tmp_path / "x.dcm", drawn.shape, [bytes(sampled)], syntax)
        assert "do not start with" in refused(path)
    if name in ("JPEG-LS", "JPEG 2000", "HTJ2K"):
        path = write_image(tmp_path / "x.dcm", drawn.shape, [encode(colours(16)[0])], syntax)
        assert "16 bits" in refused(path)
