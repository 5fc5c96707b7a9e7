"""The bytes of single frames in a file, native or encapsulated (PS3.5 sections 8.1 and A.4)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import numpy as np
import pydicom
from pydicom.uid import DeflatedExplicitVRLittleEndian

from seqnorm_monai.images.dicom.errors import PixelDecodeError, UnsupportedImageError
from seqnorm_monai.images.dicom.header import Header
from seqnorm_monai.images.dicom.pixels.codestream import has_end_marker
from seqnorm_monai.images.dicom.pixels.pixeldata import (
    EncodedPixels,
    check_native_length,
    no_pixel_data,
    open_pixel_data,
    read_items,
)
from seqnorm_monai.images.dicom.silence import pydicom_silenced


def read_frames(header: Header, frame_bits: int, frames: int, wanted: Sequence[int]) -> dict[int, EncodedPixels]:
    """The encoded bytes of the `wanted` frames (from 0); `frame_bits` is the native size of one of `frames`.

    Raises NoPixelDataError, PixelDecodeError when bytes are missing, UnsupportedImageError for floating-point pixels.
    """
    if header.transfer_syntax == DeflatedExplicitVRLittleEndian:
        data, representation = _inflated(header)
        return _native(header, lambda start, size: data[start : start + size], representation, frame_bits, wanted)
    with open_pixel_data(header) as (file, representation, length):
        if length is None:
            fragments = _join(header, read_items(header, file), frames)
            return {frame: EncodedPixels(fragments[frame], representation, True) for frame in wanted}
        check_native_length(header, length, -(-frame_bits * frames // 8))
        begin = file.tell()

        def read(start: int, size: int) -> bytes:
            file.seek(begin + start)
            return file.read(max(0, min(size, length - start)))

        return _native(header, read, representation, frame_bits, wanted)


def _inflated(header: Header) -> tuple[bytes, str]:
    try:
        with pydicom_silenced():
            dataset = pydicom.dcmread(header.path, specific_tags=["PixelData"])
        element = dataset.get_item("PixelData") if "PixelData" in dataset else None
    # whatever damaged bytes lead to
    except Exception as error:
        raise PixelDecodeError(header.path, f"the deflated data are damaged ({type(error).__name__})") from None
    if element is None:
        raise no_pixel_data(header)
    return element.value or b"", str(element.VR)


def _native(
    header: Header,
    read: Callable[[int, int], bytes],
    representation: str,
    frame_bits: int,
    wanted: Sequence[int],
) -> dict[int, EncodedPixels]:
    """Frames follow each other without padding, of single bits also within a byte.

    Big endian words of 8-bit cells are put in order here.
    """
    swapped = not header.little_endian and representation == "OW" and header.integer("BitsAllocated") == 8
    found: dict[int, EncodedPixels] = {}
    for frame in wanted:
        start, skipped_bits = divmod(frame * frame_bits, 8)
        frame_bytes = -(-(skipped_bits + frame_bits) // 8)
        odd = start % 2 if swapped else 0
        size = frame_bytes + odd
        data = read(start - odd, size + size % 2 if swapped else size)
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


def _join(header: Header, items: list[bytes], frames: int) -> list[bytes]:
    """Fragments of each frame: one each, by the Basic Offset Table, or by the ends of their streams."""
    table, fragments = (items[0], items[1:]) if items else (b"", [])
    if not any(fragments):
        raise PixelDecodeError(header.path, "the compressed pixel data are empty")
    if frames == 1:
        if len(table) > 4:
            raise UnsupportedImageError(header.path, f"one frame, but {len(table) // 4} in the offset table")
        return [b"".join(fragments)]
    if len(fragments) == frames:
        return fragments
    groups: list[list[bytes]] = []
    if len(table) == 4 * frames:
        starts = set(struct.unpack(f"<{frames}L", table))
        position = 0
        for fragment in fragments:
            if position in starts or not groups:
                groups.append([])
            groups[-1].append(fragment)
            position += 8 + len(fragment)
    else:
        ended = True
        for fragment in fragments:
            if ended:
                groups.append([])
            groups[-1].append(fragment)
            ended = has_end_marker(fragment)
    if len(groups) != frames:
        raise PixelDecodeError(header.path, f"{len(groups)} compressed frames, NumberOfFrames is {frames}")
    return [b"".join(group) for group in groups]
