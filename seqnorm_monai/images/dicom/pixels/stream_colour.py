"""What a compressed frame of three components says about its colours."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from seqnorm_monai.images.dicom.pixels.codestream import FRAME_HEADERS, STANDALONE

_APP0, _APP14, _SOS, _SOT, _COD = 0xE0, 0xEE, 0xDA, 0xFF90, 0xFF52
_RGB_NAMES = (b"RGB", b"rgb")


class ContradictoryColourError(Exception):
    """The stream says two things about its colour space."""


def jpeg_space(frame: bytes) -> str:
    """ "RGB" or "YBR" for a JPEG or JPEG-LS stream of three components, "" where it says nothing.

    In the order in which libjpeg believes them: a JFIF marker means YBR (ITU-T T.871 section 6.2), the last byte of
    Adobe's APP14 marker is 0 for RGB and 1 for YBR (T.872 section 6.5.3), components may be named R, G and B.
    Raises ContradictoryColourError for JFIF with another word of Adobe's; libjpeg would take it for YBR in silence.
    """
    jfif, adobe, names = _words(frame)
    if jfif and adobe == "RGB":
        raise ContradictoryColourError
    return "YBR" if jfif else adobe or ("RGB" if names in _RGB_NAMES else "")


def libjpeg_takes_for_ybr(frame: bytes) -> bool:
    """What libjpeg, and Pillow with it, thinks of a stream without a header: YBR if nothing speaks against it."""
    jfif, adobe, names = _words(frame)
    return jfif or (adobe == "YBR" if adobe else names != _RGB_NAMES[0])


def _words(frame: bytes) -> tuple[bool, str, bytes]:
    """Whether there is a JFIF marker, the space that Adobe's names, and the names of the components."""
    jfif, adobe, names = False, "", b""
    for marker, segment in _jpeg_segments(frame):
        if marker == _APP0 and segment.startswith(b"JFIF\0"):
            jfif = True
        # a shorter one does not have the byte that counts
        elif marker == _APP14 and segment.startswith(b"Adobe") and len(segment) >= 12:
            adobe = "YBR" if segment[11] else "RGB"
        elif marker in FRAME_HEADERS:
            names = segment[6:15:3]
    return jfif, adobe, names


def _jpeg_segments(frame: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of each segment up to the frame header (T.81 section B.1.1.4)."""
    position = 2
    while position + 4 <= len(frame) and frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker == 0xFF or marker in STANDALONE:
            position += 1 if marker == 0xFF else 2
            continue
        length = struct.unpack_from(">H", frame, position + 2)[0]
        yield marker, frame[position + 4 : position + 2 + length]
        if marker in FRAME_HEADERS or marker == _SOS:
            return
        position += 2 + length


def has_component_transform(codestream: bytes) -> bool:
    """Whether a JPEG 2000 codestream mixed its first three components (T.800 section A.6.1), which decoders undo.

    COD: Lcod, Scod, then progression order (1 byte), layers (2 bytes) and the multiple component transformation.
    """
    position = 2
    while position + 4 <= len(codestream):
        marker, length = struct.unpack_from(">HH", codestream, position)
        if marker == _COD and position + 8 < len(codestream):
            return codestream[position + 8] != 0
        if marker == _SOT:
            break
        position += 2 + length
    return False
