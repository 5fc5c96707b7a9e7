"""The encoded bytes of frames in a file, native or encapsulated, and if all are there (PS3.5 sections 8.1, A.4)."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

import numpy as np
import pydicom
from pydicom.uid import DeflatedExplicitVRLittleEndian

from seqnorm_monai.images.dicom.errors import NoPixelDataError, PixelDecodeError, UnsupportedImageError
from seqnorm_monai.images.dicom.header import Header
from seqnorm_monai.images.dicom.pixels.codestream import MAX_TAIL, START, has_end_marker, starts_stream
from seqnorm_monai.images.dicom.silence import pydicom_silenced
from seqnorm_monai.images.machine_errors import raise_machine_error

_PIXEL_DATA = 0x7FE00010
_FLOAT_KINDS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData"}
_ITEM, _END_OF_SEQUENCE = 0xFFFEE000, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
# Value representations whose length field has 32 bits, among those that pixels may have (PS3.5 section 7.1.2).
_LONG_FORM = (b"OB", b"OW", b"OF", b"OD", b"UN")
_ITEM_START = struct.Struct("<HHL")
# How far zeros behind the pixels are looked through.
_PADDING = 1 << 16
# position in the file and number of bytes
Span = tuple[int, int]


@dataclass(frozen=True)
class EncodedPixels:
    """`data`: the native bytes of one frame, or one compressed frame with its fragments joined."""

    data: bytes
    representation: str
    encapsulated: bool


def read_frames(header: Header, frame_bits: int, frames: int, wanted: Sequence[int]) -> dict[int, EncodedPixels]:
    """The encoded bytes of the `wanted` frames (from 0); `frame_bits` is the native size of one of `frames`.

    No other frame is read, whatever their number: of the fragments of others their lengths, and their last bytes where
    nothing else tells which belong together.

    Raises NoPixelDataError, PixelDecodeError when bytes are missing, UnsupportedImageError for floating-point pixels.
    """
    with open_pixel_data(header) as (file, representation, length):
        if length is None:
            spans = _spans_of_frames(header, file, frames)
            joined = {frame: b"".join(_read(file, span) for span in spans[frame]) for frame in wanted}
            return {frame: EncodedPixels(data, representation, True) for frame, data in joined.items()}
        native_size = -(-frame_bits * frames // 8)
        if length >= 2 * native_size:
            raise UnsupportedImageError(header.path, f"{length} bytes of pixels, the header describes {native_size}")
        return _native(header, file, length, representation, frame_bits, wanted)


def check_complete(header: Header, native_size: int) -> None:
    """Refuse a file that ends before its pixels do: `native_size` bytes, or the items of PS3.5 annex A.4.

    So a transfer that broke off shows when a folder is listed, not when a volume is loaded. Of deflated data sets, and
    of what is inside the items, this says nothing. Raises PixelDecodeError, and what `open_pixel_data` raises.
    """
    if header.transfer_syntax == DeflatedExplicitVRLittleEndian:
        return
    with open_pixel_data(header) as (file, _, length):
        left = os.fstat(file.fileno()).st_size - file.tell()
        if length is None:
            for _ in _walk_items(header, file):
                pass
        elif min(left, length) < native_size:
            raise PixelDecodeError(
                header.path, f"the pixel data are cut off: {min(left, length)} bytes instead of {native_size}"
            )
        else:
            file.seek(length, os.SEEK_CUR)
        _check_end(header, file)


def _check_end(header: Header, file: BinaryIO) -> None:
    """Elements stand in the order of their tags: behind the pixels there is the end, or a higher tag."""
    start = file.read(4)
    if len(start) < 4:
        return
    tag = _tag(*struct.unpack("<HH" if header.little_endian else ">HH", start))
    # an archive may pad the file with zeros, which hide nothing
    padding = tag == 0 and not any(file.read(_PADDING))
    if tag <= _PIXEL_DATA and not padding:
        raise PixelDecodeError(header.path, "another element, or a second image, stands where the pixel data end")


@contextmanager
def open_pixel_data(header: Header) -> Iterator[tuple[BinaryIO, str, int | None]]:
    """The file at the first byte of the pixels, their value representation, and their length (None: encapsulated).

    Raises NoPixelDataError, UnsupportedImageError for floating-point pixels, PixelDecodeError for damage.
    """
    if header.transfer_syntax == DeflatedExplicitVRLittleEndian:
        yield _inflated(header)
        return
    if header.pixel_offset is None:
        raise no_pixel_data(header)
    with header.opened() as file:
        file.seek(header.pixel_offset)
        tag, representation, length = _element_start(header, file)
        if tag in _FLOAT_KINDS:
            raise UnsupportedImageError(header.path, f"{_FLOAT_KINDS[tag]}: floating-point pixels are not supported")
        if tag != _PIXEL_DATA:
            raise no_pixel_data(header)
        yield file, representation, None if length == _UNDEFINED else length


def refuse_float(header: Header) -> None:
    """Raises UnsupportedImageError if the pixels are floating-point numbers."""
    if header.pixel_offset is not None:
        with open_pixel_data(header):
            pass


def no_pixel_data(header: Header) -> NoPixelDataError:
    """The error for a data set without an image, naming what it is instead."""
    kind = header.sop_class_name()
    advice = "an image by its kind, so cut off or stripped of its pixels" if "Image Storage" in kind else ""
    return NoPixelDataError(header.path, f"no pixel data: {kind}", advice)


def _inflated(header: Header) -> tuple[BinaryIO, str, int | None]:
    """The same of a deflated data set, from memory. pydicom unpacks all of it, wherever the pixels are."""
    try:
        with pydicom_silenced():
            dataset = pydicom.dcmread(header.path, specific_tags=["PixelData"])
        element = dataset.get_item("PixelData") if "PixelData" in dataset else None
    # whatever damaged bytes lead to
    except Exception as error:
        raise_machine_error(error)
        raise PixelDecodeError(header.path, f"the deflated data are damaged ({type(error).__name__})") from None
    if element is None:
        raise no_pixel_data(header)
    data = element.value or b""
    return io.BytesIO(data), str(element.VR), len(data)


def _element_start(header: Header, file: BinaryIO) -> tuple[int, str, int]:
    """Tag, value representation and length of the data element at the current position."""
    order = "<" if header.little_endian else ">"
    start = file.read(8)
    if len(start) < 8:
        raise PixelDecodeError(header.path, "the file ends at the start of its pixel data")
    tag = _tag(*struct.unpack(order + "HH", start[:4]))
    # The transfer syntax may claim the other form; these two capital letters cannot be a plausible length.
    if start[4:6] in _LONG_FORM:
        rest = file.read(4)
        if len(rest) < 4:
            raise PixelDecodeError(header.path, "the file ends at the start of its pixel data")
        return tag, start[4:6].decode("ascii"), struct.unpack(order + "L", rest)[0]
    return tag, "OW", struct.unpack(order + "L", start[4:])[0]


def _tag(group: int, element: int) -> int:
    return group << 16 | element


def _native(
    header: Header, file: BinaryIO, length: int, representation: str, frame_bits: int, wanted: Sequence[int]
) -> dict[int, EncodedPixels]:
    """Frames follow each other without padding, of single bits also within a byte.

    Big endian words of 8-bit cells are put in order here.
    """
    begin = file.tell()
    swapped = not header.little_endian and representation == "OW" and header.integer("BitsAllocated") == 8
    found: dict[int, EncodedPixels] = {}
    for frame in wanted:
        start, skipped_bits = divmod(frame * frame_bits, 8)
        frame_bytes = -(-(skipped_bits + frame_bits) // 8)
        odd = start % 2 if swapped else 0
        size = frame_bytes + odd
        asked = size + size % 2 if swapped else size
        data = _read(file, (begin + start - odd, max(0, min(asked, length - start + odd))))
        if len(data) < size:
            raise PixelDecodeError(
                header.path, f"the pixel data are cut off: frame {frame + 1} has {len(data)} bytes of {frame_bytes}"
            )
        if swapped:
            data = np.frombuffer(data[: len(data) // 2 * 2], ">u2").astype("<u2").tobytes()
        data = data[odd : odd + frame_bytes]
        if skipped_bits:
            data = _without_first_bits(data, skipped_bits)
        # already in order: OB, so that it is not swapped again
        found[frame] = EncodedPixels(data, "OB" if swapped else representation, False)
    return found


def _without_first_bits(data: bytes, count: int) -> bytes:
    """The lowest bit of a byte comes first (PS3.5 section 8.1.1)."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    return np.packbits(bits[count:], bitorder="little").tobytes()


def _read(file: BinaryIO, span: Span) -> bytes:
    file.seek(span[0])
    return file.read(span[1])


def _walk_items(header: Header, file: BinaryIO) -> Iterator[Span]:
    """Where the items of encapsulated pixels are: Basic Offset Table, then fragments, up to the Sequence Delimitation.

    Nothing in them is read. The last may lack the delimiter: whether a frame is whole shows in its end marker. Raises
    PixelDecodeError.
    """
    position = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(position)
    while len(start := file.read(_ITEM_START.size)) == _ITEM_START.size:
        group, element, length = _ITEM_START.unpack(start)
        tag = _tag(group, element)
        if tag == _END_OF_SEQUENCE:
            return
        if tag != _ITEM:
            raise PixelDecodeError(header.path, "the compressed pixel data are damaged: neither item nor delimiter")
        position += _ITEM_START.size
        if position + length > end:
            raise PixelDecodeError(header.path, "the compressed pixel data are cut off within a fragment")
        yield position, length
        position += length
        file.seek(position)


def _spans_of_frames(header: Header, file: BinaryIO, frames: int) -> list[list[Span]]:
    """The fragments of each frame: one each, by the Basic Offset Table, or by the ends of their streams."""
    table, *fragments = list(_walk_items(header, file)) or [(0, 0)]
    if not any(length for _, length in fragments):
        raise PixelDecodeError(header.path, "the compressed pixel data are empty")
    if frames == 1:
        if table[1] > 4:
            raise UnsupportedImageError(header.path, f"one frame, but {table[1] // 4} in the offset table")
        return [fragments]
    if len(fragments) == frames:
        return [[fragment] for fragment in fragments]
    if table[1] == 4 * frames:
        # counted from the start of the first fragment's item
        starts = set(struct.unpack(f"<{frames}L", _read(file, table)))
        begins = [position - fragments[0][0] in starts for position, _ in fragments]
    else:
        begins = [True, *(_is_between(file, one, other) for one, other in pairwise(fragments))]
    groups: list[list[Span]] = []
    for fragment, begin in zip(fragments, begins, strict=True):
        if begin or not groups:
            groups.append([])
        groups[-1].append(fragment)
    if len(groups) != frames:
        raise PixelDecodeError(header.path, f"{len(groups)} compressed frames, NumberOfFrames is {frames}")
    return groups


def _is_between(file: BinaryIO, one: Span, other: Span) -> bool:
    """Whether a frame ends with one fragment, and the next begins with the other, behind whatever padding."""
    return has_end_marker(_tail(file, one)) or starts_stream(_read(file, (other[0], min(other[1], START))))


def _tail(file: BinaryIO, fragment: Span) -> bytes:
    position, length = fragment
    size = min(length, MAX_TAIL)
    return _read(file, (position + length - size, size))
