"""Whether the pixels that a header announces are in the file, found out without reading them."""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

from pydicom.uid import DeflatedExplicitVRLittleEndian

from seqnorm_monai.images.dicom.errors import PixelDecodeError
from seqnorm_monai.images.dicom.header import Header
from seqnorm_monai.images.dicom.pixels.pixeldata import open_pixel_data

_ITEM = struct.Struct("<HHL")
_ITEM_TAG = (0xFFFE, 0xE000)
_PIXEL_DATA = (0x7FE0, 0x0010)
# How far zeros behind the pixels are looked through.
_PADDING = 1 << 16


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
            _check_items(header, file)
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
    tag = struct.unpack("<HH" if header.little_endian else ">HH", start)
    # an archive may pad the file with zeros, which hide nothing
    padding = tag == (0, 0) and not any(file.read(_PADDING))
    if tag <= _PIXEL_DATA and not padding:
        raise PixelDecodeError(header.path, "another element, or a second image, stands where the pixel data end")


def _check_items(header: Header, file: BinaryIO) -> None:
    """Walk from item to item. The last may lack its delimiter: whether a frame is whole shows in its end marker."""
    end = os.fstat(file.fileno()).st_size
    while len(start := file.read(_ITEM.size)) == _ITEM.size:
        group, element, length = _ITEM.unpack(start)
        if (group, element) != _ITEM_TAG:
            return
        if file.tell() + length > end:
            raise PixelDecodeError(header.path, "the compressed pixel data are cut off within a fragment")
        file.seek(length, os.SEEK_CUR)
