"""Single bits, floating-point pixels, palettes, and every transfer syntax that there is."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
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


def palette(dataset: Dataset, entries: np.ndarray, first: int, width: int) -> None:
    """`entries` (count, 3), of 8 or 16 bits; a count of 65536 is written as 0."""
    for channel, name in enumerate(("Red", "Green", "Blue")):
        descriptor = [len(entries) % 65536, first, width]
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", descriptor)
        dataset[f"{name}PaletteColorLookupTableDescriptor"].VR = "SS" if first < 0 else "US"
        data = entries[:, channel].astype("<u2" if width == 16 else np.uint8).tobytes()
        setattr(dataset, f"{name}PaletteColorLookupTableData", data + b"\0" * (len(data) % 2))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    ("depth", "width", "count", "first"),
    [(8, 8, 256, 0), (8, 16, 200, 13), (16, 16, 1000, 7), (16, 8, 301, 5), (16, 16, 2**16, 0)],
)
def test_palette(tmp_path: Path, syntax: str, depth: int, width: int, count: int, first: int, signed: bool) -> None:
    """Indices below the first entry get the first, those above the last the last; values in the bits of the table."""
    generator = np.random.default_rng([depth, width, count])
    entries = generator.integers(0, 2**width, (count, 3))
    low = -(2 ** (depth - 1)) if signed else 0
    first = first - 60 if signed else first
    indices = generator.integers(max(low, first - 20), min(low + 2**depth, first + count + 20), (2, ROWS, 43))
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    data = indices.astype(f"{order}i{depth // 8}" if signed else f"{order}u{depth // 8}").tobytes()
    dataset = Dataset()
    palette(dataset, entries, first, width)
    if syntax == ExplicitVRBigEndian:
        for name in ("Red", "Green", "Blue"):
            element = dataset[f"{name}PaletteColorLookupTableData"]
            # words: also two entries of 8 bits are one
            element.value = np.frombuffer(element.value, "<u2").astype(">u2").tobytes()
    path = write_image(
        tmp_path / "x.dcm",
        indices.shape,
        data,
        syntax,
        samples=1,
        bits=depth,
        photometric="PALETTE COLOR",
        PixelRepresentation=int(signed),
        **{element.keyword: element.value for element in dataset},
    )
    expected = entries[np.clip(indices - first, 0, count - 1)]
    np.testing.assert_array_equal(read_image(path), expected)


def segmented(tmp_path: Path, segments: list[int], count: int, width: int, **attributes: object) -> Path:
    """An image of all indices of a table, of which each colour is the same."""
    data = np.array(segments, "<u2" if width == 16 else np.uint8).tobytes()
    names = ("Red", "Green", "Blue")
    indices = np.arange(count, dtype="<u2").reshape(1, 1, count)
    return write_image(
        tmp_path / "x.dcm",
        indices.shape,
        indices.tobytes(),
        ExplicitVRLittleEndian,
        samples=1,
        bits=16,
        photometric="PALETTE COLOR",
        **{f"{name}PaletteColorLookupTableDescriptor": [count, 0, width] for name in names},
        **{f"Segmented{name}PaletteColorLookupTableData": data + b"\0" * (len(data) % 2) for name in names},
        **attributes,
    )


@pytest.mark.parametrize("width", [8, 16])
def test_segmented_palette(tmp_path: Path, width: int) -> None:
    """Discrete, linear up and down, and a copy of the first two segments (PS3.3 section C.7.9.2)."""
    first, second, third = [0, 3, 10, 200, 30], [1, 4, 50], [1, 5, 0]
    copy = [2, 2, 0, 0, 0, 0] if width == 8 else [2, 2, 0, 0]
    expected = [10, 200, 30, 35, 40, 45, 50, 40, 30, 20, 10, 0, 10, 200, 30, 35, 40, 45, 50]
    found = read_image(segmented(tmp_path, [*first, *second, *third, *copy], len(expected), width))
    np.testing.assert_array_equal(found[0, 0], np.repeat(np.array(expected)[:, None], 3, axis=1))
    # a copy that begins with the linear segment goes on from where the table is
    offset = 5 * width // 8
    copy = [2, 1, offset, 0, 0, 0] if width == 8 else [2, 1, offset, 0]
    expected = [10, 200, 30, 35, 40, 45, 50, 40, 30, 20, 10, 0, 12, 25, 38, 50]
    found = read_image(segmented(tmp_path, [*first, *second, *third, *copy], len(expected), width))
    np.testing.assert_array_equal(found[0, 0, :, 1], expected)


@pytest.mark.parametrize(
    ("segments", "count"),
    [
        ([1, 4, 50], 4),
        ([0, 3, 1, 2, 3], 4),
        ([0, 3, 1, 2, 3], 2),
        ([0, 30, 1, 2, 3], 30),
        ([0, 3, 1, 2, 3, 2, 1, 10, 0], 6),
        ([0, 3, 1, 2, 3, 2, 2, 0, 0], 6),
        ([0, 3, 1, 2, 3, 2, 1, 1, 0], 6),
        ([0, 3, 1, 2, 3, 7, 3, 9], 6),
        ([0, 3, 1, 2, 3, 1, 0, 9], 3),
        ([0, 0, 1, 60000, 9], 60000),
    ],
)
def test_damaged_segments(tmp_path: Path, segments: list[int], count: int) -> None:
    """Nothing to go on from, too few or too many entries, cut off, copies of copies, unknown kinds."""
    assert "PaletteColorLookupTableData" in refused(segmented(tmp_path, segments, count, 16))


def test_damaged_palettes(tmp_path: Path) -> None:
    """Missing, of different size, or with entries that do not fit."""
    good = np.arange(30).reshape(10, 3)
    for change, reason in (
        ({"GreenPaletteColorLookupTableData": None}, "is missing"),
        ({"BluePaletteColorLookupTableDescriptor": [9, 0, 8]}, "differs"),
        ({"BluePaletteColorLookupTableDescriptor": [9, 0]}, "three values"),
        ({"BluePaletteColorLookupTableDescriptor": [10, 0, 32]}, "32 bits"),
        ({"BluePaletteColorLookupTableData": bytes(8)}, "10 entries"),
        ({"BluePaletteColorLookupTableData": b"\0\1" * 10}, "more than 8 bits"),
    ):
        dataset = Dataset()
        palette(dataset, good, 0, 8)
        elements = {element.keyword: element.value for element in dataset} | change
        path = write_image(
            tmp_path / "x.dcm",
            (1, 2, 2),
            bytes(4),
            ExplicitVRLittleEndian,
            samples=1,
            photometric="PALETTE COLOR",
            **{keyword: value for keyword, value in elements.items() if value is not None},
        )
        assert reason in refused(path)


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


def test_palette_indices_may_be_compressed(tmp_path: Path) -> None:
    imagecodecs = pytest.importorskip("imagecodecs", reason="needs imagecodecs to encode")
    entries = np.random.default_rng(3).integers(0, 256, (256, 3))
    indices = np.random.default_rng(4).integers(0, 256, (2, ROWS, 43)).astype(np.uint8)
    dataset = Dataset()
    palette(dataset, entries, 0, 8)
    path = write_image(
        tmp_path / "x.dcm",
        indices.shape,
        [imagecodecs.jpeg2k_encode(frame, level=0, reversible=True, codecformat="j2k") for frame in indices],
        JPEG2000Lossless,
        samples=1,
        photometric="PALETTE COLOR",
        **{element.keyword: element.value for element in dataset},
    )
    np.testing.assert_array_equal(read_image(path), entries[indices])
