"""Every compressed transfer syntax in multi-frame files, by the first decoder and by the one that stands in for it."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import (
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    RLELossless,
)

from seqnorm_monai.images.dicom import PixelDecodeError
from seqnorm_monai.images.dicom.pixels import decoders
from seqnorm_monai.images.dicom.pixels.codestream import rle_problem
from seqnorm_monai.images.dicom.series import read_studies
from seqnorm_monai.images.sources import SourceFile
from tests.makers.reading import load_volume
from tests.makers.studies import mr_slice, save

imagecodecs = pytest.importorskip("imagecodecs", reason="needs imagecodecs to encode")
Encode = Callable[[np.ndarray], bytes]
RLE_OPTIONS: dict[str, Any] = {
    **{"rows": 37, "columns": 43, "samples_per_pixel": 1, "number_of_frames": 1, "pixel_representation": 0},
    **{"bits_allocated": 16, "bits_stored": 16, "photometric_interpretation": "MONOCHROME2"},
}
JPEG2000Lossy, HTJ2KLossy = UID("1.2.840.10008.1.2.4.91"), UID("1.2.840.10008.1.2.4.203")
# syntax -> encoder, bits, largest difference
CODECS: dict[str, tuple[UID, Encode, int, int]] = {
    "JPEG baseline": (JPEGBaseline8Bit, lambda a: imagecodecs.jpeg8_encode(a, level=98), 8, 4),
    "JPEG extended": (JPEGExtended12Bit, lambda a: imagecodecs.jpeg8_encode(a, level=98, bitspersample=12), 12, 24),
    "JPEG lossless": (JPEGLossless, lambda a: imagecodecs.ljpeg_encode(a, bitspersample=12), 12, 0),
    "JPEG lossless SV1": (JPEGLosslessSV1, lambda a: imagecodecs.ljpeg_encode(a, bitspersample=16), 16, 0),
    "JPEG-LS": (JPEGLSLossless, imagecodecs.jpegls_encode, 16, 0),
    "JPEG-LS near lossless": (JPEGLSNearLossless, lambda a: imagecodecs.jpegls_encode(a, level=2), 16, 2),
    "JPEG 2000": (
        JPEG2000Lossless,
        lambda a: imagecodecs.jpeg2k_encode(a, level=0, reversible=True, codecformat="j2k"),
        16,
        0,
    ),
    "JPEG 2000 lossy": (JPEG2000Lossy, lambda a: imagecodecs.jpeg2k_encode(a, level=60, codecformat="j2k"), 16, 600),
    "HTJ2K": (HTJ2KLossless, lambda a: imagecodecs.htj2k_encode(a, reversible=True), 16, 0),
    "HTJ2K RPCL": (HTJ2KLosslessRPCL, lambda a: imagecodecs.htj2k_encode(a, reversible=True), 16, 0),
    "HTJ2K lossy": (HTJ2KLossy, lambda a: imagecodecs.htj2k_encode(a, reversible=True), 16, 0),
}


def frames_of(bits: int) -> np.ndarray:
    """Three smooth frames of 37 x 43 that reach both ends of the range."""
    y, x = np.mgrid[0:37, 0:43]
    top = 2**bits - 1
    frames = [top * (0.5 + 0.5 * np.sin(x / 9 + k) * np.cos(y / 11)) for k in range(3)]
    values = np.stack(frames).round().astype(np.uint8 if bits == 8 else np.uint16)
    values[:, 0, 0], values[:, 5, 7] = 0, top
    return values


def write(path: Path, frames: np.ndarray, encoded: list[bytes], syntax: UID, bits: int, *, how: str) -> Path:
    dataset = mr_slice(frames[0].astype(np.uint16), 0, "1.2.3.51", Modality="OT", PixelSpacing=None)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "SliceThickness"):
        delattr(dataset, keyword)
    dataset.SOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    dataset.NumberOfFrames = len(encoded)
    dataset.BitsAllocated = 8 if bits == 8 else 16
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    save(dataset, path)
    dataset.file_meta.TransferSyntaxUID = syntax
    if how == "extended":
        dataset.PixelData, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = encapsulate_extended(
            encoded
        )
    else:
        parts = {"one": 1, "table": 3, "no table": 3}[how]
        dataset.PixelData = encapsulate(encoded, fragments_per_frame=parts, has_bot=how == "table")
    dataset["PixelData"].VR = "OB"
    dataset.save_as(path, enforce_file_format=True)
    return path


def read(path: Path) -> np.ndarray:
    """(frames, rows, columns)"""
    report = read_studies([SourceFile(path.name, path)])
    assert [record.status for record in report.files] == ["used"], report.files
    (volume,) = report.volumes
    return load_volume(volume).numpy()[0].transpose(2, 1, 0)


@pytest.mark.parametrize("how", ["one", "table", "no table", "extended"])
@pytest.mark.parametrize("name", CODECS)
def test_frames(tmp_path: Path, name: str, how: str) -> None:
    syntax, encode, bits, bound = CODECS[name]
    frames = frames_of(bits)
    path = write(tmp_path / "x.dcm", frames, [encode(frame) for frame in frames], syntax, bits, how=how)
    found = read(path)
    difference = np.abs(found - frames.astype(np.float64)).max()
    assert difference <= bound
    assert bound == 0 or difference > 0 or "HTJ2K" in name


@pytest.mark.parametrize("name", CODECS)
def test_another_decoder_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Without the first decoder the values are the same; of lossy streams, within a rounding of them."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    syntax, encode, bits, bound = CODECS[name]
    frames = frames_of(bits)
    path = write(tmp_path / "x.dcm", frames, [encode(frame) for frame in frames], syntax, bits, how="one")
    expected = read(path)
    calls = []

    def failing(*_: object) -> None:
        calls.append(1)
        raise RuntimeError

    first = {"JPEG baseline": "by_pillow"}.get(name, "by_pydicom")
    if name in ("JPEG extended", "JPEG lossless", "JPEG lossless SV1"):
        first = "by_imagecodecs"
        monkeypatch.setattr(decoders, "has_imagecodecs", lambda: False)
    monkeypatch.setattr(decoders, first, failing)
    np.testing.assert_allclose(read(path), expected, rtol=0, atol=1 if bound else 0)
    assert first == "by_imagecodecs" or calls
    second = "by_gdcm" if first == "by_imagecodecs" else "by_imagecodecs"
    monkeypatch.setattr(decoders, second, failing)
    with pytest.raises(
        PixelDecodeError, match=r"x\.dcm: .* pixel data cannot be decoded \(.*imagecodecs: RuntimeError"
    ):
        read(path)


@pytest.mark.parametrize("name", CODECS)
def test_gdcm_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It ends the process over some damaged streams, so it gets none while another decoder is installed."""
    syntax, encode, bits, _ = CODECS[name]
    frames = frames_of(bits)
    encoded = [encode(frame) for frame in frames]
    encoded[1] = encoded[1][: len(encoded[1]) * 2 // 3] + encoded[1][-2:]
    path = write(tmp_path / "x.dcm", frames, encoded, syntax, bits, how="one")

    asked = []

    def gdcm(*_: object) -> None:
        asked.append(1)
        raise RuntimeError

    monkeypatch.setattr(decoders, "by_gdcm", gdcm)
    monkeypatch.setattr("pydicom.pixels.decoders.gdcm._decode_frame", gdcm)
    # libjpeg and OpenJPEG give what they find
    with contextlib.suppress(PixelDecodeError):
        read(path)
    assert not asked


@pytest.mark.parametrize(("bits", "signed"), [(8, False), (8, True), (12, False), (16, False), (16, True)])
@pytest.mark.parametrize("name", ["JPEG-LS", "JPEG 2000", "HTJ2K"])
def test_the_stand_in_extends_signs(name: str, bits: int, signed: bool) -> None:
    """Streams of unsigned samples under a signed header hold two's complement; of signed samples, the values."""
    syntax, encode, *_ = CODECS[name]
    low = -(2 ** (bits - 1)) if signed else 0
    values = (np.arange(37 * 43) * 7919 % 2**bits + low).reshape(37, 43)
    cells = (values & (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
    expected = decoders.FrameFormat(syntax, 37, 43, 8 if bits == 8 else 16, 8 * cells.itemsize, signed)
    np.testing.assert_array_equal(decoders.by_imagecodecs(encode(cells), expected), values)


def test_a_decoder_that_returns_another_size_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = decoders.FrameFormat(UID(JPEG2000Lossless), 4, 4, 16, 16, False)
    frame = CODECS["JPEG 2000"][1](np.arange(20, dtype=np.uint16).reshape(4, 5))
    with pytest.raises(decoders.NoDecoderError, match="imagecodecs: an image of another size"):
        decoders.decode_frame(frame, expected)


@pytest.mark.parametrize(("name", "first"), [("JPEG 2000", "imagecodecs"), ("JPEG 2000 lossy", "pydicom")])
def test_threads_share_a_frame_of_lossless_jpeg_2000(monkeypatch: pytest.MonkeyPatch, name: str, first: str) -> None:
    syntax, encode, *_ = CODECS[name]
    frame = frames_of(16)[0]
    expected = decoders.FrameFormat(UID(syntax), *frame.shape, 16, 16, False)
    asked = []
    for decoder in ("by_pydicom", "by_imagecodecs"):
        wrapped = getattr(decoders, decoder)
        monkeypatch.setattr(decoders, decoder, lambda *a, d=decoder, w=wrapped: asked.append(d) or w(*a))
    values = {}
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        values[threads] = decoders.decode_frame(encode(frame), expected)
    assert asked == ["by_pydicom", f"by_{first}"]
    np.testing.assert_array_equal(values[1], values[2])


def test_rle_frames(tmp_path: Path) -> None:
    frames = frames_of(16)
    encoded = [RLELosslessEncoder.encode(frame, **RLE_OPTIONS) for frame in frames]
    path = write(tmp_path / "x.dcm", frames, encoded, UID(RLELossless), 16, how="one")
    np.testing.assert_array_equal(read(path), frames)


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        (0, 3, "3 segments instead of 2"),
        (4, 70, "its segments do not follow each other"),
        (8, 64, "its segments do not follow each other"),
        (8, 10**6, "its segments do not follow each other"),
    ],
)
def test_rle_headers_that_decoders_accept(tmp_path: Path, place: int, value: int, problem: str) -> None:
    """They give other pixels without a word."""
    frames = frames_of(16)
    encoded = [RLELosslessEncoder.encode(frame, **RLE_OPTIONS) for frame in frames]
    encoded[1] = encoded[1][:place] + value.to_bytes(4, "little") + encoded[1][place + 4 :]
    path = write(tmp_path / "x.dcm", frames, encoded, UID(RLELossless), 16, how="one")
    with pytest.raises(PixelDecodeError, match=f"a damaged RLE frame: {problem}"):
        read(path)
    assert rle_problem(bytes(10), 1) == "shorter than its header"


def test_a_file_cut_off_within_a_frame_is_refused_by_its_header_scan(tmp_path: Path) -> None:
    frames = frames_of(16)
    path = write(
        tmp_path / "x.dcm", frames, [CODECS["JPEG-LS"][1](f) for f in frames], UID(JPEGLSLossless), 16, how="one"
    )
    path.write_bytes(path.read_bytes()[:-50])
    (record,) = read_studies([SourceFile("x", path)]).files
    assert (record.status, record.reason) == ("rejected", "the compressed pixel data are cut off within a fragment")


def test_a_second_image_behind_the_first_is_refused(tmp_path: Path) -> None:
    """A piece of the file that stands there twice: nobody can tell which of the two is right."""
    values = np.arange(30, dtype=np.uint16).reshape(5, 6)
    path = save(mr_slice(values, 0, "1.2.3.51"), tmp_path / "x.dcm")
    data = path.read_bytes()
    place = data.index(b"\xe0\x7f\x10\0")
    for behind in (data[place:], data, bytes(9) + data):
        path.write_bytes(data + behind)
        report = read_studies([SourceFile("x", path)])
        assert report.files[0].reason == "another element, or a second image, stands where the pixel data end"
    for harmless in (bytes(6), b"\xfc\xff\xfc\xffOB\0\0\x02\0\0\0ab"):
        path.write_bytes(data + harmless)
        np.testing.assert_array_equal(
            load_volume(read_studies([SourceFile("x", path)]).volumes[0])[0].numpy().T, values
        )


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = frames_of(16)
    path = write(tmp_path / "x.dcm", frames, [b"\xff\xd8" + bytes(50)] * 3, UID(JPEGLSLossless), 16, how="one")
    with pytest.raises(PixelDecodeError, match="do not start with a JPEG"):
        read(path)
    encoded = [CODECS["JPEG-LS"][1](frame) for frame in frames]
    write(path, frames, [frame[:60] + bytes(60) + b"\xff\xd9" for frame in encoded], UID(JPEGLSLossless), 16, how="one")
    monkeypatch.setattr("seqnorm_monai.images.dicom.pixels.decode.has_imagecodecs", lambda: False)
    with pytest.raises(PixelDecodeError, match=r"\(pip install imagecodecs for one more decoder\)"):
        read(path)


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOMEM, "no memory"), OSError(errno.EMFILE, "files")])
def test_a_decoder_without_memory_is_no_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    syntax, encode, bits, _ = CODECS["JPEG 2000"]
    frames = frames_of(bits)
    path = write(tmp_path / "x.dcm", frames, [encode(frame) for frame in frames], syntax, bits, how="one")
    expected = read(path)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(decoders, "by_pydicom", fail)
    np.testing.assert_array_equal(read(path), expected)  # another decoder had enough
    monkeypatch.setattr(decoders, "by_imagecodecs", fail)
    monkeypatch.setattr(decoders, "by_gdcm", fail)
    with pytest.raises(type(error)) as raised:
        read(path)
    assert raised.value is error


def test_a_decoder_that_fails_otherwise_blames_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syntax, encode, bits, _ = CODECS["JPEG 2000"]
    frames = frames_of(bits)
    path = write(tmp_path / "x.dcm", frames, [encode(frame) for frame in frames], syntax, bits, how="one")

    def fail(*_: object) -> None:
        raise OSError(errno.EINVAL, "broken stream")

    for name in ("by_pydicom", "by_imagecodecs", "by_gdcm"):
        monkeypatch.setattr(decoders, name, fail)
    with pytest.raises(PixelDecodeError, match="OSError"):
        read(path)
