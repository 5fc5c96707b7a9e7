"""The grayscale pipeline against numbers worked out by hand from PS3.3 section C.11."""

from __future__ import annotations

import numpy as np
import pytest

from seqnorm_monai.images.dicom.pixels.grayscale import (
    LookupTable,
    Rescale,
    Window,
    fill_padding,
    modality_range,
    modality_values,
    padding_mask,
    presentation_values,
)


def array(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def literal_linear(x: float, c: float, w: float) -> float:
    """PS3.3 section C.11.2.1.2.1, word for word, for the output range [0, 1]."""
    if x <= c - 0.5 - (w - 1) / 2:
        return 0.0
    if x > c - 0.5 + (w - 1) / 2:
        return 1.0
    return ((x - (c - 0.5)) / (w - 1) + 0.5) * (1 - 0) + 0


def literal_linear_exact(x: float, c: float, w: float) -> float:
    """PS3.3 section C.11.2.1.3.2."""
    if x <= c - w / 2:
        return 0.0
    if x > c + w / 2:
        return 1.0
    return ((x - c) / w + 0.5) * (1 - 0) + 0


def literal_sigmoid(x: float, c: float, w: float) -> float:
    """PS3.3 section C.11.2.1.3.1."""
    return 1 / (1 + np.exp(min(-4 * (x - c) / w, 700.0)))


LITERAL = {"LINEAR": literal_linear, "LINEAR_EXACT": literal_linear_exact, "SIGMOID": literal_sigmoid}


@pytest.mark.parametrize("function", LITERAL)
@pytest.mark.parametrize(("center", "width"), [(2048, 4096), (0, 100), (-17.5, 3), (5, 1), (0.5, 1.7)])
def test_window_is_the_formula_of_the_standard(function: str, center: float, width: float) -> None:
    values = np.concatenate([np.arange(-131, 131, 0.5), array(-5000, 2047, 2048, 5000)])
    expected = [LITERAL[function](x, center, width) for x in values]
    np.testing.assert_allclose(Window(center, width, function)(values), expected, rtol=1e-12, atol=1e-12)


def test_window_of_the_standards_own_example() -> None:
    """Section C.11.2.1.2.1, note 4: center 2048, width 4096 takes 0 to the minimum and 4095 to the maximum."""
    np.testing.assert_allclose(Window(2048, 4096)(array(0, 4095, 2047.5)), [0, 1, 0.5], atol=1e-15)


def test_sigmoid_far_from_its_window_is_finite() -> None:
    np.testing.assert_array_equal(Window(0, 1, "SIGMOID")(array(-1e6, 1e6)), [0, 1])


def test_lookup_table_clips_at_both_ends_and_takes_the_nearest_entry() -> None:
    table = LookupTable(first=-3, entries=array(10, 20, 40, 80), bits=10)
    np.testing.assert_array_equal(table(array(-9, -3, -2, -1.4, 0, 7)), [10, 10, 20, 40, 80, 80])
    assert table.high == 1023


def test_inversion_reflects_over_the_possible_range() -> None:
    unsigned, signed = (0, 4095), (-2048, 2047)
    np.testing.assert_array_equal(modality_values(array(0, 5, 4095), unsigned, Rescale(), invert=True), [4095, 4090, 0])
    np.testing.assert_array_equal(modality_values(array(-2048, 5), signed, Rescale(), invert=True), [2047, -6])
    # 2 x + 7 reaches 7 to 8197; the reflection of 2 * 5 + 7 = 17 is 8187.
    np.testing.assert_array_equal(modality_values(array(5), unsigned, Rescale(2, 7), invert=True), [8187])
    # -2 x + 7 reaches -8183 to 7; the reflection of -3 is -8173.
    np.testing.assert_array_equal(modality_values(array(5), unsigned, Rescale(-2, 7), invert=True), [-8173])
    table = LookupTable(0, array(3, 9, 100), bits=8)
    np.testing.assert_array_equal(modality_values(array(0, 1, 2), unsigned, table, invert=True), [252, 246, 155])


def test_presentation_values() -> None:
    window = Window(100, 41)
    plain = presentation_values(array(40, 50), (0, 255), Rescale(2, 0), window, invert=False)
    np.testing.assert_allclose(plain, [literal_linear(80, 100, 41), literal_linear(100, 100, 41)], rtol=1e-12)
    inverted = presentation_values(array(40, 50), (0, 255), Rescale(2, 0), window, invert=True)
    np.testing.assert_allclose(inverted, 1 - plain, rtol=1e-12)
    table = LookupTable(100, array(0, 51, 255), bits=8)
    np.testing.assert_allclose(
        presentation_values(array(0, 101, 300), (0, 4095), Rescale(), table, invert=False), [0, 0.2, 1]
    )
    without = presentation_values(array(-128, 127, 0), (-128, 127), Rescale(-3, 11), None, invert=False)
    np.testing.assert_allclose(without, [1, 0, 127 / 255], rtol=1e-12)


def test_modality_range_of_a_negative_slope_is_ordered() -> None:
    assert modality_range((0, 255), Rescale(-2, 10)) == (-500, 10)
    assert modality_range((0, 255), LookupTable(0, array(1), bits=9)) == (0, 511)


def test_padding_takes_the_smallest_of_the_other_values() -> None:
    stored = array(0, 3, 5, 7, 9)
    mask = padding_mask(stored, (5, 3))
    np.testing.assert_array_equal(mask, [False, True, True, False, False])
    np.testing.assert_array_equal(fill_padding(array(50, 1, 2, 40, 60), mask), [50, 40, 40, 40, 60])
