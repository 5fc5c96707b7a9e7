"""Palette colour lookup tables, whole or in segments (PS3.3 sections C.7.6.3.1.5, C.7.6.3.1.6 and C.7.9)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from seqnorm_monai.images.dicom.header import Header

_NAMES = ("Red", "Green", "Blue")
PALETTE_KEYWORDS = tuple(
    f"{prefix}{name}PaletteColorLookupTable{part}"
    for name in _NAMES
    for prefix, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
)
_DISCRETE, _LINEAR, _INDIRECT = 0, 1, 2
Entries = npt.NDArray[np.unsignedinteger]


def apply_palette(header: Header, indices: npt.NDArray[np.integer], *, signed: bool) -> Entries:
    """RGB (rows, columns, 3) of palette indices, in the bits of the lookup table.

    An index before the first entry gets the first one, one behind the last the last. `signed` is that of the indices.
    pydicom's `apply_color_lut` is not used: it takes big endian tables for little endian ones, refuses an odd number of
    8-bit entries, and follows indirect segments of 16 bits to the wrong place.

    Raises UnsupportedImageError for tables that are missing, damaged or at odds with each other.
    """
    descriptors = {_descriptor(header, name, signed=signed) for name in _NAMES}
    if len(descriptors) != 1:
        raise header.unusable("RedPaletteColorLookupTableDescriptor", "differs from those of the other colours")
    count, first, bits = descriptors.pop()
    table = np.stack([_entries(header, name, count, bits) for name in _NAMES], axis=-1)
    return table[np.clip(indices.astype(np.int64) - first, 0, count - 1)]


def _descriptor(header: Header, name: str, *, signed: bool) -> tuple[int, int, int]:
    """Number of entries (0 for 2^16), first index that is mapped, bits per entry."""
    keyword = f"{name}PaletteColorLookupTableDescriptor"
    values = header.integers(keyword)
    if len(values) != 3:
        raise header.unusable(keyword, "does not have three values")
    count, bits = values[0] & 0xFFFF or 2**16, values[2]
    # its sign is that of the pixels, also where the value representation says otherwise
    first = values[1] & 0xFFFF
    first -= 2**16 if signed and first >= 2**15 else 0
    if not 8 <= bits <= 16:
        raise header.unusable(keyword, f"asks for {bits} bits per entry, allowed are 8 to 16")
    return count, first, bits


def _entries(header: Header, name: str, count: int, bits: int) -> Entries:
    keyword = f"{name}PaletteColorLookupTableData"
    raw = header.raw(keyword)
    if raw is None:
        keyword = f"Segmented{keyword}"
        raw = header.raw(keyword)
        if raw is None:
            raise header.unusable(f"{name}PaletteColorLookupTableData", "is missing")
    representation, data = raw
    if representation != "OB" and not header.little_endian:
        data = np.frombuffer(data[: len(data) // 2 * 2], ">u2").astype("<u2").tobytes()
    wide = bits > 8
    if keyword.startswith("Segmented"):
        values = np.frombuffer(data[: len(data) // 2 * 2] if wide else data, "<u2" if wide else np.uint8)
        entries = _expand(header, keyword, values, count)
    # entries of 8 bits stand in bytes, padded to an even number, or in words
    elif not wide and len(data) == count + count % 2:
        entries = np.frombuffer(data, np.uint8, count)
    elif len(data) == 2 * count:
        entries = np.frombuffer(data, "<u2")
    else:
        raise header.unusable(keyword, f"does not have {count} entries")
    if int(entries.max()) >= 2**bits:
        raise header.unusable(keyword, f"has entries of more than {bits} bits")
    return entries.astype(np.uint16 if wide else np.uint8)


def _expand(header: Header, keyword: str, data: Entries, count: int) -> Entries:
    """The entries that segments stand for. At most `count` are made, whatever the segments ask for."""
    entries: list[int] = []
    step = data.itemsize
    try:
        for kind, length, body in _segments(data, 0):
            if kind == _INDIRECT:
                # the offset in bytes, least significant part first
                start, odd = divmod(int.from_bytes(data[body : body + 4 // step].tobytes(), "little"), step)
                copied = list(zip(range(length), _segments(data, start), strict=False))
                if odd or len(copied) < length:
                    raise IndexError
                parts = [segment for _, segment in copied]
            else:
                parts = [(kind, length, body)]
            for part in parts:
                entries += _segment(data, part, entries[-1:], count)
                if len(entries) > count:
                    raise IndexError
    except (IndexError, ValueError):
        raise header.unusable(keyword, "is damaged") from None
    if len(entries) != count:
        raise header.unusable(keyword, f"does not have {count} entries")
    return np.array(entries, dtype=np.uint16)


def _segments(data: Entries, position: int) -> Iterator[tuple[int, int, int]]:
    """Kind, length and start of the content of each segment from `position` on; a last value alone is padding."""
    while position + 1 < len(data):
        kind, length = int(data[position]), int(data[position + 1])
        yield kind, length, position + 2
        position += 2 + {_DISCRETE: length, _LINEAR: 1, _INDIRECT: 4 // data.itemsize}.get(kind, len(data))


def _segment(data: Entries, segment: tuple[int, int, int], last: Sequence[int], count: int) -> list[int]:
    """The entries of a segment that is not indirect; a linear one runs from the entry before it, `last`."""
    kind, length, body = segment
    if kind == _DISCRETE and length and body + length <= len(data):
        return data[body : body + length].tolist()
    # one that copies another of its kind is against section C.7.9.2.3, so it cannot go round in circles
    if kind != _LINEAR or not last or not 1 <= length <= count:
        raise ValueError
    end = int(data[body])
    step = (end - last[0]) / length
    return np.rint(np.linspace(last[0] + step, end, length)).astype(int).tolist()
