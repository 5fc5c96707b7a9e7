"""Lookup tables whose first input value is written with the wrong sign."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from tests.makers.dicom_files import ramp
from tests.makers.reading import read_radiograph

Make = Callable[..., Path]


def lut(first: int, entries: np.ndarray, bits: int, representation: str) -> list[Dataset]:
    """An item whose LUT Descriptor has this value representation, with the words as they are."""
    words = struct.pack("<HHH", len(entries) & 0xFFFF, first & 0xFFFF, bits)
    item = Dataset()
    item[0x00283002] = RawDataElement(Tag(0x00283002), representation, 6, words, 0, False, True)
    item[0x00283002].value  # noqa: B018
    item.add_new(0x00283006, "OW", entries.astype("<u2").tobytes())
    return [item]


@pytest.mark.parametrize("representation", ["US", "SS"])
@pytest.mark.parametrize(
    ("bits", "signed", "first"),
    [(12, True, -2048), (12, True, -17), (16, True, -32768), (12, False, 100), (12, False, -900), (16, False, 40_000)],
)
def test_modality_lut(make_dicom: Make, representation: str, bits: int, signed: bool, first: int) -> None:
    """Whatever the element says, the sign is that of the pixels, or the one with which the table is of any use."""
    values = ramp(bits, signed=signed)
    entries = np.arange(5000) * 13
    path = make_dicom(
        values, bits_stored=bits, signed=signed, ModalityLUTSequence=lut(first, entries, 16, representation)
    )
    expected = entries[np.clip(values - first, 0, 4999)]
    assert np.unique(expected).size > 100
    np.testing.assert_array_equal(read_radiograph(path).pixels, expected)


@pytest.mark.parametrize("representation", ["US", "SS"])
@pytest.mark.parametrize(("intercept", "first"), [(-1024, -1000), (0, 500), (38_000, 40_000), (-40_000, -39_000)])
def test_voi_lut(make_dicom: Make, representation: str, intercept: int, first: int) -> None:
    values = ramp(12)
    entries = np.arange(1000)
    path = make_dicom(
        values,
        RescaleIntercept=str(intercept),
        RescaleSlope="1",
        VOILUTSequence=lut(first, entries, 10, representation),
    )
    expected = entries[np.clip(values + intercept - first, 0, 999)] / 1023
    np.testing.assert_allclose(read_radiograph(path, apply_voi=True).pixels, expected, atol=1e-6)
