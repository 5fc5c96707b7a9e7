"""Find the encoded pixels of a single-frame image in its file, and make sure that they are all there."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import pydicom
from pydicom.uid import DeflatedExplicitVRLittleEndian

from seqnorm_monai.images.dicom.errors import NoPixelDataError, PixelDecodeError, UnsupportedImageError
from seqnorm_monai.images.dicom.header import Header
from seqnorm_monai.images.dicom.silence import pydicom_silenced

_PIXEL_DATA = 0x7FE00010
_FLOAT_KINDS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData"}
_ITEM, _END_OF_SEQUENCE = 0xFFFEE000, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
# Value representations whose length field has 32 bits, among those that pixels may have (PS3.5 section 7.1.2).
_LONG_FORM = (b"OB", b"OW", b"OF", b"OD", b"UN")


@dataclass(frozen=True)
class EncodedPixels:
    """`data`: the native bytes, padded to an even number, or one compressed frame with its fragments joined."""

    data: bytes
    representation: str
    encapsulated: bool


def read_encoded_pixels(header: Header, native_size: int) -> EncodedPixels:
    """Read the Pixel Data element of a single-frame image: `native_size` bytes, or all fragments (PS3.5 annex A.4).

    Raises NoPixelDataError, UnsupportedImageError for floating-point pixels and for more than one frame,
    PixelDecodeError when bytes are missing.
    """
    if header.transfer_syntax == DeflatedExplicitVRLittleEndian:
        return _read_inflated(header, native_size)
    with open_pixel_data(header) as (file, representation, length):
        if length is None:
            return EncodedPixels(_one_frame(header, read_items(header, file)), representation, True)
        check_native_length(header, length, native_size)
        data = file.read(min(length, native_size + native_size % 2))
        return EncodedPixels(_checked_size(header, data, native_size), representation, False)


@contextmanager
def open_pixel_data(header: Header) -> Iterator[tuple[BinaryIO, str, int | None]]:
    """The file at the first byte of the pixels, their value representation, and their length (None: encapsulated)."""
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


def check_native_length(header: Header, length: int, native_size: int) -> None:
    """Refuse an element that holds twice what the header describes, or more."""
    if length >= 2 * native_size:
        raise UnsupportedImageError(header.path, f"{length} bytes of pixels, the header describes {native_size}")


def no_pixel_data(header: Header) -> NoPixelDataError:
    """The error for a data set without an image, naming what it is instead."""
    kind = header.sop_class_name()
    advice = "an image by its kind, so cut off or stripped of its pixels" if "Image Storage" in kind else ""
    return NoPixelDataError(header.path, f"no pixel data: {kind}", advice)


def _element_start(header: Header, file: BinaryIO) -> tuple[int, str, int]:
    """Tag, value representation and length of the data element at the current position."""
    order = "<" if header.little_endian else ">"
    start = file.read(8)
    if len(start) < 8:
        raise PixelDecodeError(header.path, "the file ends at the start of its pixel data")
    group, element = struct.unpack(order + "HH", start[:4])
    tag = group << 16 | element
    # The transfer syntax may claim the other form; these two capital letters cannot be a plausible length.
    if start[4:6] in _LONG_FORM:
        rest = file.read(4)
        if len(rest) < 4:
            raise PixelDecodeError(header.path, "the file ends at the start of its pixel data")
        return tag, start[4:6].decode("ascii"), struct.unpack(order + "L", rest)[0]
    return tag, "OW", struct.unpack(order + "L", start[4:])[0]


def _read_inflated(header: Header, native_size: int) -> EncodedPixels:
    with pydicom_silenced():
        dataset = pydicom.dcmread(header.path, specific_tags=["PixelData"])
    element = dataset.get_item("PixelData") if "PixelData" in dataset else None
    if element is None:
        raise no_pixel_data(header)
    return EncodedPixels(_checked_size(header, element.value or b"", native_size), str(element.VR), False)


def _checked_size(header: Header, data: bytes, size: int) -> bytes:
    if len(data) < size:
        raise PixelDecodeError(header.path, f"the pixel data are cut off: {len(data)} bytes instead of {size}")
    return data[: size + size % 2]


def read_items(header: Header, file: BinaryIO) -> list[bytes]:
    """The items of encapsulated pixels: Basic Offset Table, then fragments, up to the Sequence Delimitation Item."""
    items: list[bytes] = []
    while True:
        start = file.read(8)
        # A file that ends here lost its delimiter, or more; whether the frame is whole shows in its end marker.
        if len(start) < 8:
            break
        group, element, length = struct.unpack("<HHL", start)
        tag = group << 16 | element
        if tag == _END_OF_SEQUENCE:
            break
        if tag != _ITEM:
            raise PixelDecodeError(header.path, "the compressed pixel data are damaged: neither item nor delimiter")
        item = file.read(length)
        if len(item) < length:
            raise PixelDecodeError(header.path, "the compressed pixel data are cut off within a fragment")
        items.append(item)
    return items


def _one_frame(header: Header, items: list[bytes]) -> bytes:
    """The fragments of a single frame, joined."""
    offset_table, fragments = (items[0], items[1:]) if items else (b"", [])
    if len(offset_table) > 4:
        raise UnsupportedImageError(header.path, f"more than one frame: {len(offset_table) // 4} in the offset table")
    if not any(fragments):
        raise PixelDecodeError(header.path, "the compressed pixel data are empty")
    return b"".join(fragments)
