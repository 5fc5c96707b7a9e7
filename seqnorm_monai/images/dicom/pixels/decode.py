"""From the encoded bytes of a frame to its stored values (PS3.5 section 8)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from seqnorm_monai.images.dicom.errors import PixelDecodeError, UnsupportedImageError
from seqnorm_monai.images.dicom.header import Header
from seqnorm_monai.images.dicom.pixels.codestream import frame_info, has_end_marker, rle_problem
from seqnorm_monai.images.dicom.pixels.decoders import (
    HTJ2K_SYNTAXES,
    J2K_SYNTAXES,
    FrameFormat,
    NoDecoderError,
    decode_frame,
    has_imagecodecs,
)
from seqnorm_monai.images.dicom.pixels.fragments import EncodedPixels
from seqnorm_monai.images.dicom.pixels.layout import PixelLayout, StoredValues

# 16384 x 16384. A compressed frame of a few bytes can claim any size; no radiograph comes near this one.
_MAX_COMPRESSED_PIXELS = 2**28
_CELLS = (8, 16, 32)
# What lossy compression adds at edges: so much of the range, in so many of the pixels, and no more.
_OVERSHOOT, _MOST_BEYOND = 1 / 16, 1 / 1000
_READ = (
    *(ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian),
    *(*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *J2K_SYNTAXES, *HTJ2K_SYNTAXES, RLELossless),
)
# PS3.6 annex A, later than pydicom's dictionary
_UNKNOWN_TO_PYDICOM = {
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
    "1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression",
}
_LOSSLESS = (JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless, HTJ2KLosslessRPCL)


def decode_stored_values(header: Header, layout: PixelLayout, encoded: EncodedPixels) -> StoredValues:
    """Decode one frame into an integer array (rows, columns); bits outside Bits Stored are dropped.

    Raises UnsupportedImageError, or PixelDecodeError when bytes are missing or damaged or no decoder is installed.
    """
    transfer_syntax = check_transfer_syntax(header, encoded)
    if not transfer_syntax:
        return _decode_native(encoded, layout, header.little_endian)
    if not encoded.encapsulated:
        return _decode_native(encoded, layout, header.transfer_syntax != ExplicitVRBigEndian)
    return _decode_compressed(header, encoded.data, layout, transfer_syntax)


def check_transfer_syntax(header: Header, encoded: EncodedPixels) -> UID:
    """The transfer syntax, "" where a native file has none.

    Raises UnsupportedImageError if it is none that is read, or the pixels contradict it.
    """
    transfer_syntax = readable_syntax(header)
    if not transfer_syntax:
        if encoded.encapsulated:
            raise UnsupportedImageError(header.path, "compressed pixel data without a TransferSyntaxUID")
    elif transfer_syntax.is_encapsulated != encoded.encapsulated:
        form = "compressed" if encoded.encapsulated else "native"
        raise UnsupportedImageError(header.path, f"{form} pixel data under the transfer syntax {transfer_syntax.name}")
    return transfer_syntax


def readable_syntax(header: Header) -> UID:
    """The transfer syntax, "" where there is none. Raises UnsupportedImageError if it is none that is read."""
    syntax = UID(header.transfer_syntax)
    if not syntax or syntax in _READ:
        return syntax
    name = _UNKNOWN_TO_PYDICOM.get(syntax, syntax.name)
    if any(video in name for video in ("MPEG", "HEVC", "Video")):
        raise UnsupportedImageError(header.path, f"a video ({name})", "export it as single frames")
    what = "an unknown TransferSyntaxUID" if name == syntax else f"the transfer syntax {name} is not read"
    raise UnsupportedImageError(header.path, what, "convert it to Explicit VR Little Endian")


def _decode_native(encoded: EncodedPixels, layout: PixelLayout, little_endian: bool) -> StoredValues:
    data = encoded.data
    count = layout.rows * layout.columns
    if layout.bits_allocated == 1:
        # PS3.5 section 8.1.1: the first pixel is the lowest bit
        bits = np.unpackbits(np.frombuffer(data, np.uint8), count=count, bitorder="little")
        return bits.reshape(layout.rows, layout.columns)
    if layout.bits_allocated == 8 and not little_endian and encoded.representation == "OW":
        # PS3.5 section 8.1.1 and annex A.3: 8-bit cells in words, the words in big endian order.
        data = np.frombuffer(data, ">u2").astype("<u2").tobytes()
    dtype = np.dtype(f"{'<' if little_endian else '>'}u{layout.bits_allocated // 8}")
    words = np.frombuffer(data, dtype, count).astype(dtype.newbyteorder("="))
    return _significant_bits(words, layout).reshape(layout.rows, layout.columns)


def _significant_bits(words: npt.NDArray[np.unsignedinteger], layout: PixelLayout) -> StoredValues:
    """The stored bits of each cell, sign-extended. The other bits hold overlays or junk (PS3.5 section 8.1.1)."""
    if layout.bits_stored == layout.bits_allocated:
        return words.view(f"i{words.itemsize}") if layout.signed else words
    above = layout.bits_allocated - 1 - layout.high_bit
    cells = (words << above).view(f"i{words.itemsize}" if layout.signed else words.dtype)
    return cells >> (layout.bits_allocated - layout.bits_stored)


def _decode_compressed(header: Header, frame: bytes, layout: PixelLayout, transfer_syntax: UID) -> StoredValues:
    if layout.bits_allocated == 1:
        raise UnsupportedImageError(header.path, f"single bits under the transfer syntax {transfer_syntax.name}")
    precision = check_stream(header, frame, layout, transfer_syntax)
    values = run_decoder(header, frame, layout, transfer_syntax, precision)
    if transfer_syntax == RLELossless:
        return _significant_bits(values.view(f"u{values.itemsize}"), layout)
    low, high = layout.stored_range
    if values.min() < low or values.max() > high:
        if transfer_syntax in _LOSSLESS:
            raise PixelDecodeError(header.path, f"decoded values do not fit BitsStored {layout.bits_stored}")
        _check_depth(header, values, layout, precision)
        # Lossy compression overshoots at edges, beyond what could be stored.
        values = np.clip(values, low, high)
    return values


def _check_depth(header: Header, values: StoredValues, layout: PixelLayout, precision: int) -> None:
    """Refuse a stream of more bits than Bits Stored that uses them: to clip it would make much of the image white."""
    low, high = layout.stored_range
    margin = (high - low + 1) * _OVERSHOOT
    beyond = np.count_nonzero((values > high + margin) | (values < low - margin))
    if precision > layout.bits_stored and beyond > _MOST_BEYOND * values.size:
        raise PixelDecodeError(
            header.path,
            f"compressed samples of {precision} bits do not fit BitsStored {layout.bits_stored}",
            "correct BitsStored and HighBit, or export the image again",
        )


def check_stream(header: Header, frame: bytes, layout: PixelLayout, transfer_syntax: UID, samples: int = 1) -> int:
    """Bits per sample of a compressed frame whose size, samples and end are those that its header asks for.

    Before a decoder is asked, and allocates what the stream claims. Raises PixelDecodeError or UnsupportedImageError.
    """
    if layout.rows * layout.columns > _MAX_COMPRESSED_PIXELS:
        raise UnsupportedImageError(
            header.path,
            f"{layout.rows} x {layout.columns} compressed pixels, at most {_MAX_COMPRESSED_PIXELS} are read",
        )
    if transfer_syntax == RLELossless:
        # Each byte of a PackBits run yields at most 64 (PS3.5 section G.3).
        if layout.size * samples > 64 * len(frame):
            raise PixelDecodeError(header.path, "too few compressed bytes for an image of this size")
        if problem := rle_problem(frame, samples * layout.bits_allocated // 8):
            raise PixelDecodeError(header.path, f"a damaged RLE frame: {problem}")
        return layout.bits_allocated
    info = frame_info(frame)
    if info is None or not 1 <= info.precision <= 32:
        raise PixelDecodeError(header.path, "the compressed pixel data do not start with a JPEG or JPEG 2000 header")
    if info.components != samples:
        kind = "grayscale" if samples == 1 else "colour"
        raise UnsupportedImageError(header.path, f"{info.components} colour components under a {kind} header")
    # T.81 section B.2.2: 0 lines, their number follows in a DNL segment.
    if info.columns != layout.columns or info.rows not in (layout.rows, 0):
        raise PixelDecodeError(
            header.path,
            f"the compressed image is {info.rows} x {info.columns}, its header says {layout.rows} x {layout.columns}",
        )
    if not has_end_marker(frame):
        raise PixelDecodeError(header.path, "the compressed pixel data are cut off: no end marker")
    return info.precision


def run_decoder(
    header: Header, frame: bytes, layout: PixelLayout, transfer_syntax: UID, precision: int, samples: int = 1
) -> StoredValues:
    """`decode_frame` into the smallest cells that hold `precision`; its failure is a PixelDecodeError of the file."""
    bits = next(bits for bits in _CELLS if precision <= bits)
    expected = FrameFormat(transfer_syntax, layout.rows, layout.columns, bits, precision, layout.signed, samples)
    try:
        return decode_frame(frame, expected)
    except NoDecoderError as error:
        advice = "" if has_imagecodecs() else "pip install imagecodecs for one more decoder"
        raise PixelDecodeError(
            header.path, f"{transfer_syntax.name} pixel data cannot be decoded ({error})", advice
        ) from None
