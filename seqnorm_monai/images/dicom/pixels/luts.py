"""Read the modality LUT, VOI LUT and padding of a header into the functions of `pixels`."""

from __future__ import annotations

import numpy as np

from seqnorm_monai.images.dicom.header import Header
from seqnorm_monai.images.dicom.pixels.grayscale import LookupTable, Rescale, Window

LUT_KEYWORDS = (
    "ModalityLUTSequence",
    "RescaleSlope",
    "RescaleIntercept",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
)
_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


def read_modality(header: Header, *, stored_range: tuple[int, int]) -> LookupTable | Rescale:
    """The modality LUT (PS3.3 section C.11.1), the identity where the file has none.

    Sequence and rescale exclude each other in the standard; where both are present the sequence is taken.
    A slope without an intercept, or the reverse, is completed by 0 or 1. `stored_range`: the smallest and the largest
    value that a pixel may have. Raises UnsupportedImageError for a slope of 0 and for values that are not numbers.
    """
    item = header.first_item("ModalityLUTSequence")
    if item is not None:
        return _read_lut(item, stored_range)
    slope, intercept = _single(header, "RescaleSlope", 1.0), _single(header, "RescaleIntercept", 0.0)
    if slope == 0:
        raise header.unusable("RescaleSlope", "is 0")
    return Rescale(slope, intercept)


def read_voi(header: Header, *, modality_range: tuple[float, float]) -> LookupTable | Window | None:
    """The first VOI LUT, else the first window (PS3.3 section C.11.2), None where the file has neither.

    `modality_range`, the ends of the modality values, settles the sign of a LUT's first input value.
    """
    item = header.first_item("VOILUTSequence")
    if item is not None:
        return _read_lut(item, modality_range)
    centers, widths = header.decimals("WindowCenter"), header.decimals("WindowWidth")
    if not centers and not widths:
        return None
    if len(centers) != len(widths):
        raise header.unusable("WindowCenter", "and WindowWidth differ in their number of values")
    function = header.code("VOILUTFunction") or "LINEAR"
    if function not in _FUNCTIONS:
        raise header.unusable("VOILUTFunction", f"is none of {', '.join(_FUNCTIONS)}")
    if widths[0] <= 0 or (function == "LINEAR" and widths[0] < 1):
        raise header.unusable("WindowWidth", f"is too small for the function {function}")
    return Window(centers[0], widths[0], function)


def read_padding(header: Header, *, signed: bool) -> tuple[int, int] | None:
    """The two ends of the range of padding values (PS3.3 section C.7.5.1.1.2), None where the file has none.

    They are stored values. Their sign is that of the pixels (Pixel Representation), also where the file's value
    representation says otherwise, as some writers always put US.
    """
    ends = [header.integers(keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if not ends[0]:
        return None
    words = np.array([end[0] & 0xFFFF for end in ends if end], dtype=np.uint16)
    values = words.view(np.int16) if signed else words
    return int(values[0]), int(values[-1])


def _single(header: Header, keyword: str, default: float) -> float:
    values = header.decimals(keyword)
    if len(values) > 1:
        raise header.unusable(keyword, "has more than one value")
    return values[0] if values else default


def _read_lut(item: Header, input_range: tuple[float, float]) -> LookupTable:
    """PS3.3 section C.11.1.1: LUT Descriptor is number of entries (0 for 2^16), first input value, bits per entry."""
    descriptor = item.integers("LUTDescriptor")
    if len(descriptor) != 3:
        raise item.unusable("LUTDescriptor", "does not have three values")
    # Only the second value may be negative; the others are counts, also where the element is SS.
    count, bits = descriptor[0] & 0xFFFF or 2**16, descriptor[2]
    first = _first_input(descriptor[1], count, input_range)
    if not 8 <= bits <= 16:
        raise item.unusable("LUTDescriptor", f"asks for {bits} bits per entry, allowed are 8 to 16")
    entries = _lut_entries(item, count, bits)
    if entries.max() >= 2**bits:
        raise item.unusable("LUTData", f"has entries of more than {bits} bits")
    return LookupTable(first, entries.astype(np.float64), bits)


def _first_input(value: int, count: int, input_range: tuple[float, float]) -> int:
    """The first input value, a word of 16 bits, with the sign that fits a table of `count` entries to its input.

    It has the sign of the input, whatever the value representation of the element says: US stands there for a negative
    one too, and SS for one above 32,767. The other sign is taken where the table would lie beside all of the input.
    """
    low, high = input_range
    word = value & 0xFFFF
    signs = [word - 2**16, word] if low < 0 and word >= 2**15 else [word, word - 2**16]
    return next((first for first in signs if first <= high and first + count > low), signs[0])


def _lut_entries(item: Header, count: int, bits: int) -> np.ndarray:
    raw = item.raw("LUTData")
    data = b"" if raw is None else raw[1]
    order = "<" if item.little_endian else ">"
    if len(data) >= 2 * count:
        return np.frombuffer(data, f"{order}u2", count)
    # Entries of 8 bits may be packed, two in a word.
    if bits == 8 and len(data) in (count, count + 1) and len(data) % 2 == 0:
        return np.frombuffer(data, f"{order}u2").astype("<u2").view(np.uint8)[:count]
    raise item.unusable("LUTData", f"has fewer than {count} entries")
