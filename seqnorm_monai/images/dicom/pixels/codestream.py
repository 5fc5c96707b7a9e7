"""What a compressed frame says about its size and its colours, before a decoder allocates memory for it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_SOI, _SOC, _SIZ = b"\xff\xd8", b"\xff\x4f", b"\xff\x51"
# End of image (ITU-T T.81 table B.1, T.87) and end of codestream (T.800 table A.1) are the same two bytes.
_END = b"\xff\xd9"
# Frame headers SOF0 to SOF15 without DHT, JPG and DAC, and SOF55 of JPEG-LS.
_FRAME_HEADERS = (frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}) | {0xF7}
_STANDALONE = frozenset(range(0xD0, 0xD9)) | {0x01}
_APP0, _APP14, _SOS = 0xE0, 0xEE, 0xDA
_COD, _SOT = 0xFF52, 0xFF90
_RGB_NAMES = (b"RGB", b"rgb")
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
# Writers pad the last fragment, with more than the one byte that makes it even.
MAX_TAIL = 64
# bytes that tell the start of a stream
START = 4
# 16 numbers of 32 bits, PS3.5 annex G.5
_RLE_HEADER = 64


class ContradictoryColourError(Exception):
    """The stream says two things about its colour space."""


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

    Both forbid these two bytes within coded data, so that a stream that was cut off does not have them behind its
    header; in the header they may end a small picture in an application segment. Writers pad what is behind them, some
    by kilobytes: all of it is looked through only where the last bytes do not have them.
    """
    if _END in frame[-MAX_TAIL:]:
        return True
    stream = raw_codestream(frame)
    return stream.rfind(_END) > _coded_data(stream)


def starts_stream(start: bytes) -> bool:
    """Whether a fragment of at least `START` bytes begins a JPEG, JPEG-LS or JPEG 2000 stream. No coded data do."""
    return start.startswith((_SOI + b"\xff", _SOC + _SIZ))


def _coded_data(frame: bytes) -> int:
    """Where the first scan or tile-part begins; the end of the frame where its header has no end."""
    position = 2
    while position + 4 <= len(frame) and frame[position] == 0xFF:
        marker, length = struct.unpack_from(">HH", frame, position)
        if marker in (_SOT, 0xFF00 | _SOS):
            return position
        # a fill byte, T.81 section B.1.1.2
        position += 1 if marker == 0xFFFF else 2 + length
    return len(frame)


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
            return _jpeg2000_info(codestream)
    except struct.error:
        pass
    return None


def jpeg_space(frame: bytes) -> str:
    """ "RGB" or "YBR" for a JPEG or JPEG-LS stream of three components, "" where it says nothing.

    In the order in which libjpeg believes them: a JFIF marker means YBR (ITU-T T.871 section 6.2), the last byte of
    Adobe's APP14 marker is 0 for RGB and 1 for YBR (T.872 section 6.5.3), components may be named R, G and B.
    Raises ContradictoryColourError for JFIF with another word of Adobe's; libjpeg would take it for YBR in silence.
    """
    jfif, adobe, names = _colour_words(frame)
    if jfif and adobe == "RGB":
        raise ContradictoryColourError
    return "YBR" if jfif else adobe or ("RGB" if names in _RGB_NAMES else "")


def libjpeg_takes_for_ybr(frame: bytes) -> bool:
    """What libjpeg, and Pillow with it, thinks of a stream without a header: YBR if nothing speaks against it."""
    jfif, adobe, names = _colour_words(frame)
    return jfif or (adobe == "YBR" if adobe else names != _RGB_NAMES[0])


def has_component_transform(codestream: bytes) -> bool:
    """Whether a JPEG 2000 codestream mixed its first three components (T.800 section A.6.1), which decoders undo.

    COD: Scod, then progression order (1 byte), layers (2 bytes) and the multiple component transformation.
    """
    for marker, segment in _jpeg2000_segments(codestream):
        if marker == _COD and len(segment) > 4:
            return segment[4] != 0
    return False


def _jpeg_info(frame: bytes) -> FrameInfo | None:
    for marker, segment in _jpeg_segments(frame):
        if marker in _FRAME_HEADERS:
            precision, rows, columns, components = struct.unpack_from(">BHHB", segment)
            return FrameInfo(rows, columns, components, precision, marker)
    return None


def _jpeg2000_info(codestream: bytes) -> FrameInfo | None:
    """T.800 section A.5.1: Rsiz, Xsiz, Ysiz, XOsiz, YOsiz, four tile sizes, Csiz, then three bytes a component.

    None too for components that differ in depth, sign or sampling: no DICOM image has them.
    """
    # SIZ comes first
    _, segment = next(_jpeg2000_segments(codestream), (0, b""))
    _, width, height, left, top, *_, components, depth = struct.unpack_from(">H8LHB", segment)
    kinds = segment[36:][: 3 * components]
    if components > 1 and (len(kinds) < 3 * components or kinds != kinds[:3] * components):
        return None
    return FrameInfo(height - top, width - left, components, (depth & 0x7F) + 1, 0)


def _colour_words(frame: bytes) -> tuple[bool, str, bytes]:
    """Whether there is a JFIF marker, the space that Adobe's names, and the names of the components."""
    jfif, adobe, names = False, "", b""
    for marker, segment in _jpeg_segments(frame):
        if marker == _APP0 and segment.startswith(b"JFIF\0"):
            jfif = True
        # a shorter one does not have the byte that counts
        elif marker == _APP14 and segment.startswith(b"Adobe") and len(segment) >= 12:
            adobe = "YBR" if segment[11] else "RGB"
        elif marker in _FRAME_HEADERS:
            names = segment[6:15:3]
    return jfif, adobe, names


def _jpeg_segments(frame: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of each segment up to the frame header (T.81 section B.1.1.4), what is there of it."""
    position = 2
    while position + 4 <= len(frame) and frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker == 0xFF or marker in _STANDALONE:
            # a fill byte, T.81 section B.1.1.2, or a marker without a segment
            position += 1 if marker == 0xFF else 2
            continue
        length = struct.unpack_from(">H", frame, position + 2)[0]
        yield marker, frame[position + 4 : position + 2 + length]
        if marker in _FRAME_HEADERS or marker == _SOS:
            return
        position += 2 + length


def _jpeg2000_segments(codestream: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of each segment of the main header (T.800 section A.1), what is there of it."""
    position = 2
    while position + 4 <= len(codestream):
        marker, length = struct.unpack_from(">HH", codestream, position)
        if marker == _SOT:
            return
        yield marker, codestream[position + 4 : position + 2 + length]
        position += 2 + length
