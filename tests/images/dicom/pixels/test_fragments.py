"""Single bits, floating-point pixels, frames among others, and every transfer syntax that there is."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.pixels import pack_bits
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    ParametricMapStorage,
    RLELossless,
    UID_dictionary,
)

from seqnorm_monai.images.dicom.pixels.decoders import HTJ2K_SYNTAXES
from seqnorm_monai.images.dicom.series import read_studies
from seqnorm_monai.images.sources import SourceFile
from tests.makers.colour_files import ROWS, read_image, refused, write_image
from tests.makers.reading import load_volume

BUFFER = 512


def bits(frames: int, columns: int) -> np.ndarray:
    return np.random.default_rng([frames, columns]).integers(0, 2, (frames, ROWS, columns)).astype(np.uint8)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize(("frames", "columns"), [(1, 43), (5, 43), (3, 8)])
def test_single_bits(tmp_path: Path, syntax: str, photometric: str, frames: int, columns: int) -> None:
    """Frames of 37 x 43 bits begin within a byte. MONOCHROME1 shows 0 as white."""
    drawn = bits(frames, columns)
    path = write_image(
        tmp_path / "x.dcm",
        drawn.shape,
        pack_bits(drawn.ravel()),
        syntax,
        samples=1,
        bits=1,
        photometric=photometric,
    )
    expected = 1 - drawn if photometric == "MONOCHROME1" else drawn
    np.testing.assert_array_equal(read_image(path)[..., 0], expected)
    np.testing.assert_array_equal(pydicom.dcmread(path).pixel_array.reshape(drawn.shape), drawn)


def test_single_bits_cut_off(tmp_path: Path) -> None:
    drawn = bits(5, 43)
    path = write_image(
        tmp_path / "x.dcm",
        drawn.shape,
        pack_bits(drawn.ravel())[:-4],
        ExplicitVRLittleEndian,
        samples=1,
        bits=1,
        photometric="MONOCHROME2",
    )
    assert "cut off" in refused(path)
    assert read_studies([SourceFile("x", path)]).files[0].status == "rejected"


@pytest.mark.parametrize(
    ("syntax", "attributes", "reason"),
    [
        (ExplicitVRBigEndian, {}, "big endian"),
        (ExplicitVRLittleEndian, {"PixelRepresentation": 1}, "signed"),
        (RLELossless, {}, "RLE Lossless"),
    ],
)
def test_single_bits_refused(tmp_path: Path, syntax: str, attributes: dict[str, int], reason: str) -> None:
    drawn = bits(1, 43)
    data = pack_bits(drawn.ravel())
    path = write_image(
        tmp_path / "x.dcm",
        drawn.shape,
        [data] if syntax == RLELossless else data,
        syntax,
        samples=1,
        bits=1,
        photometric="MONOCHROME2",
        **attributes,
    )
    assert reason in refused(path)


@pytest.mark.parametrize(("keyword", "kind"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")])
def test_floating_point_pixels_are_refused_by_name(tmp_path: Path, keyword: str, kind: str) -> None:
    """In the object that may hold them, and in any other that claims to."""
    path = write_image(
        tmp_path / "x.dcm", (1, 5, 6), bytes(60), ExplicitVRLittleEndian, samples=1, bits=16, photometric="MONOCHROME2"
    )
    dataset = pydicom.dcmread(path)
    for absent in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(dataset, absent)
    dataset.BitsAllocated = 8 * np.dtype(kind).itemsize
    setattr(dataset, keyword, np.arange(30, dtype=kind).tobytes())
    dataset.save_as(path)
    assert keyword in refused(path)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = ParametricMapStorage
    dataset.save_as(path)
    assert "a parametric map" in refused(path)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_twice_the_pixels_that_the_header_describes(tmp_path: Path, syntax: str) -> None:
    path = write_image(tmp_path / "x.dcm", (1, 5, 6), bytes(60), syntax, samples=1, photometric="MONOCHROME2")
    assert "60 bytes of pixels, the header describes 30" in refused(path)


@pytest.mark.parametrize(
    ("fragments", "table"), [(1, True), (1, False), (3, True), (3, False)], ids=["one", "one_bare", "table", "ends"]
)
def test_of_other_frames_nothing_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fragments: int, table: bool
) -> None:
    """A frame costs itself and the starts of all items, each with what fits into the buffer of the file.

    Without one fragment for each frame and without an offset table, the ends of the fragments cost as much again.
    """
    imagecodecs = pytest.importorskip("imagecodecs", reason="needs imagecodecs to encode")
    drawn = np.random.default_rng(7).integers(0, 2**16, (13, 181, 179)).astype(np.uint16)
    frames = [imagecodecs.jpeg2k_encode(frame, level=0, reversible=True, codecformat="j2k") for frame in drawn]
    data = encapsulate(frames, fragments_per_frame=fragments, has_bot=table)
    path = write_image(
        tmp_path / "x.dcm", drawn.shape, [frames[0]], JPEG2000Lossless, samples=1, bits=16, photometric="MONOCHROME2",
        PixelData=data,
    )  # fmt: skip
    (volume,) = read_studies([SourceFile("x", path)]).volumes
    one = dataclasses.replace(volume, planes=volume.planes[7:8], shape=(1, *volume.shape[1:]))
    sizes: list[int] = []

    class Counting(io.FileIO):
        def readinto(self, buffer: memoryview) -> int | None:
            sizes.append(super().readinto(buffer) or 0)
            return sizes[-1]

    monkeypatch.setattr(Path, "open", lambda path, mode: io.BufferedReader(Counting(path, mode.strip("b")), BUFFER))
    np.testing.assert_array_equal(load_volume(one)[0, :, :, 0].numpy().T, drawn[7])
    items = 1 + 13 * fragments
    touched = 2 + items if table or fragments == 1 else 2 + 2 * items
    assert len(frames[7]) < sum(sizes) < len(frames[7]) + (touched + fragments) * BUFFER < len(data) / 3


LATER = ["1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.111", "1.2.840.10008.1.2.4.112", "1.2.840.10008.1.2.8.1"]
KNOWN = [uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"]
COMPRESSED = (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, JPEG2000Lossless, JPEG2000, *HTJ2K_SYNTAXES, RLELossless)
NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)


@pytest.mark.parametrize("syntax", [uid for uid in (*KNOWN, *LATER, "1.2.3.4.5") if uid not in NATIVE])
def test_every_transfer_syntax_refuses_what_it_is_not(tmp_path: Path, syntax: str) -> None:
    """Bytes that no decoder knows: by name, and always by a typed error."""
    path = write_image(tmp_path / "x.dcm", (1, 5, 6), [bytes(60)], ExplicitVRLittleEndian, samples=1, bits=16)
    dataset = pydicom.dcmread(path)
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=True, force_encoding=True)
    reason = refused(path)
    if UID(syntax) in COMPRESSED:
        assert "do not start with" in reason or "RLE" in reason
    else:
        expected = "an unknown TransferSyntaxUID" if syntax == "1.2.3.4.5" else "the transfer syntax "
        video = any(word in UID(syntax).name for word in ("MPEG", "HEVC", "Video"))
        assert reason.startswith("a video (" if video else expected)
    if syntax in LATER:
        assert "JPEG XL" in reason or "Deflated Image Frame" in reason
