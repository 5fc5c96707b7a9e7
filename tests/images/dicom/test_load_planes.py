"""The direct way from stored integers to float32 gives what float64 rounded once gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seqnorm_monai.images.dicom import UnsupportedImageError
from seqnorm_monai.images.dicom.load_planes import gray_values
from seqnorm_monai.images.dicom.pixels.grayscale import LookupTable, Rescale, modality_values
from seqnorm_monai.images.dicom.pixels.layout import PixelLayout

PATH = Path("x.dcm")


@pytest.mark.parametrize("modality", [(1, 0), (1, -1024), (1, 0.5), (1, 2**24), (1, -(2**24) - 1), (2, 0), (-1, 7)])
@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("allocated", "stored"), [(8, 8), (16, 12), (16, 16), (32, 23), (32, 24), (32, 25), (32, 32)])
def test_values_are_those_of_float64(
    allocated: int, stored: int, signed: bool, inverted: bool, modality: tuple[float, float]
) -> None:
    layout = PixelLayout(11, 13, allocated, stored, stored - 1, signed)
    low, high = layout.stored_range
    values = np.random.default_rng(stored).integers(low, high, (11, 13), endpoint=True)
    # both ends, and odd numbers, which float32 rounds above 2^24
    values.flat[:4] = low, high, high - 1, low + 1
    cells = values.astype(f"{'i' if signed else 'u'}{allocated // 8}")
    rescale = Rescale(*map(float, modality))
    expected = modality_values(values.astype(np.float64), layout.stored_range, rescale, invert=inverted)
    found = gray_values(PATH, cells, layout, rescale, inverted=inverted)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_lookup_tables() -> None:
    table = LookupTable(2, np.array([5.0, 1.0, 9.0]), 8)
    layout = PixelLayout(1, 4, 8, 8, 7, False)
    stored = np.array([[0, 2, 3, 200]], np.uint8)
    np.testing.assert_array_equal(gray_values(PATH, stored, layout, table, inverted=False), [[5, 5, 1, 9]])
    np.testing.assert_array_equal(gray_values(PATH, stored, layout, table, inverted=True), [[250, 250, 254, 246]])


def test_values_beyond_float32_are_refused() -> None:
    layout = PixelLayout(1, 1, 8, 8, 7, False)
    with pytest.raises(UnsupportedImageError, match=r"x\.dcm: the rescaled values exceed float32"):
        gray_values(PATH, np.array([[200]], np.uint8), layout, Rescale(1e38, 0.0), inverted=False)
