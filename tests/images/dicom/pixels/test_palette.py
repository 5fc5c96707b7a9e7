"""Palettes: indices to colours, in every form of a table, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
)

from tests.makers.colour_files import ROWS, read_image, refused, write_image


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
