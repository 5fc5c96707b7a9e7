"""What a compressed frame says about itself, before a decoder allocates memory for it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_SOI, _SOC, _SIZ = b"\xff\xd8", b"\xff\x4f", b"\xff\x51"
# End of image (ITU-T T.81 table B.1, T.87) and end of codestream (T.800 table A.1) are the same two bytes.
_END = b"\xff\xd9"
# Frame headers SOF0 to SOF15 without DHT, JPG and DAC, and SOF55 of JPEG-LS.
FRAME_HEADERS = (frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}) | {0xF7}
STANDALONE = frozenset(range(0xD0, 0xD9)) | {0x01}
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
# Writers pad the last fragment, with more than the one byte that makes it even.
MAX_TAIL = 64
# 16 numbers of 32 bits, PS3.5 annex G.5
_RLE_HEADER = 64


@dataclass(frozen=True)
class FrameInfo:
    """Size, samples per pixel and bits per sample of a compressed frame; `marker` is the JPEG SOF code, 0 for J2K."""

    rows: int
    columns: int
    components: int
    precision: int
    marker: int


def has_end_marker(frame: bytes) -> bool:
    """Whether a JPEG, JPEG-LS or JPEG 2000 stream comes to its proper end.

    Both forbid these two bytes within coded data, so that a stream that was cut off does not have them near its end.
    """
    return _END in frame[-MAX_TAIL:]


def rle_problem(frame: bytes, segments: int) -> str:
    """What is wrong with the header of an RLE frame of so many segments (PS3.5 annex G.5), "" if nothing is.

    Sixteen numbers of 32 bits: how many segments there are, one for each byte of a pixel, and where each begins.
    """
    if len(frame) < _RLE_HEADER:
        return "shorter than its header"
    count, *offsets = struct.unpack_from("<16L", frame)
    if count != segments:
        return f"{count} segments instead of {segments}"
    begins = offsets[:count]
    if begins[0] != _RLE_HEADER or begins != sorted(set(begins)) or begins[-1] >= len(frame):
        return "its segments do not follow each other"
    return ""


def raw_codestream(frame: bytes) -> bytes:
    """A JPEG 2000 codestream without the boxes of a JP2 file, which PS3.5 section 8.2.4 forbids and writers add.

    The boxes may name a colour space of their own, which decoders apply without a word.
    """
    return frame[max(frame.find(_SOC + _SIZ), 0) :] if frame.startswith(_JP2_SIGNATURE) else frame


def frame_info(frame: bytes) -> FrameInfo | None:
    """Parse the frame header of a JPEG or JPEG-LS stream, or the SIZ marker segment of a JPEG 2000 one.

    Returns None if it is none of these or ends before.
    """
    try:
        if frame.startswith(_SOI):
            return _jpeg_info(frame)
        codestream = raw_codestream(frame)
        if codestream.startswith(_SOC + _SIZ):
            return _jpeg2000_info(codestream, 4)
    except (struct.error, IndexError):
        pass
    return None


def _jpeg_info(frame: bytes) -> FrameInfo | None:
    position = 2
    while frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker == 0xFF:  # fill byte, T.81 section B.1.1.2
            position += 1
        elif marker in STANDALONE:
            position += 2
        elif marker in FRAME_HEADERS:
            precision, rows, columns, components = struct.unpack_from(">BHHB", frame, position + 4)
            return FrameInfo(rows, columns, components, precision, marker)
        else:
            position += 2 + struct.unpack_from(">H", frame, position + 2)[0]
    return None


def _jpeg2000_info(frame: bytes, position: int) -> FrameInfo | None:
    """T.800 section A.5.1: Lsiz, Rsiz, Xsiz, Ysiz, XOsiz, YOsiz, four tile sizes, Csiz, then three bytes a component.

    None too for components that differ in depth, sign or sampling: no DICOM image has them.
    """
    _, _, width, height, left, top, *_, components, depth = struct.unpack_from(">HH8LHB", frame, position)
    # they follow 38 bytes behind the start of Lsiz
    kinds = frame[position + 38 :][: 3 * components]
    if components > 1 and (len(kinds) < 3 * components or kinds != kinds[:3] * components):
        return None
    return FrameInfo(height - top, width - left, components, (depth & 0x7F) + 1, 0)
