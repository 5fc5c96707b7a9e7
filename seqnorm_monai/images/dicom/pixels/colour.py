"""Colour frames to RGB: order of samples and colour spaces (PS3.3 section C.7.6.3.1)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydicom.uid import UID, RLELossless

from seqnorm_monai.images.dicom.errors import PixelDecodeError, UnsupportedImageError
from seqnorm_monai.images.dicom.header import Header
from seqnorm_monai.images.dicom.pixels.codestream import frame_info, has_end_marker, raw_codestream, rle_problem
from seqnorm_monai.images.dicom.pixels.decode import (
    MAX_COMPRESSED_PIXELS,
    PixelLayout,
    check_transfer_syntax,
    decode_stored_values,
    run_decoder,
)
from seqnorm_monai.images.dicom.pixels.decoders import HTJ2K_SYNTAXES, J2K_SYNTAXES
from seqnorm_monai.images.dicom.pixels.fragments import EncodedPixels
from seqnorm_monai.images.dicom.pixels.stream_colour import (
    ContradictoryColourError,
    has_component_transform,
    jpeg_space,
)

_SPACES = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
# Y, Cb and Cr of PS3.3 section C.7.6.3.1.2 back to R, G and B
_YBR_TO_RGB = np.array(
    [[1, 1, 1], [0, -0.114 * 1.772 / 0.587, 1.772], [1.402, -0.299 * 1.402 / 0.587, 0]], dtype=np.float64
)

Colour = npt.NDArray[np.integer]


def colour_frame_bits(header: Header, layout: PixelLayout) -> int:
    """Bits of one native frame; YBR_FULL_422 has two samples for each pixel instead of three."""
    return layout.frame_bits * (2 if header.code("PhotometricInterpretation") == "YBR_FULL_422" else 3)


def decode_colour(header: Header, layout: PixelLayout, encoded: EncodedPixels) -> Colour:
    """One frame of three samples as RGB (rows, columns, 3). Raises UnsupportedImageError or PixelDecodeError."""
    space = header.code("PhotometricInterpretation")
    if space not in _SPACES:
        raise UnsupportedImageError(header.path, f"PhotometricInterpretation {space or 'missing'} of three samples")
    if layout.signed or (layout.bits_stored > 16 and space != "RGB"):
        raise UnsupportedImageError(header.path, "colour samples that are signed, or YBR of more than 16 bits")
    if layout.bits_allocated == 1:
        raise UnsupportedImageError(header.path, "colour samples of a single bit")
    if encoded.encapsulated:
        values, space = _compressed(header, layout, encoded.data, space)
    elif space in ("YBR_RCT", "YBR_ICT"):
        raise UnsupportedImageError(header.path, f"PhotometricInterpretation {space} of uncompressed pixels")
    else:
        values = (_upsample_422 if space == "YBR_FULL_422" else _native)(header, layout, encoded)
    return ybr_to_rgb(values, layout.bits_stored) if space.startswith("YBR") else values


def ybr_to_rgb(values: Colour, bits: int) -> Colour:
    """YBR_FULL to RGB for samples of so many bits: Cb and Cr are 0 at half of the range.

    R = Y + 1.402 Cr, G = Y - 0.344 Cb - 0.714 Cr, B = Y + 1.772 Cb, rounded. Of 8 bits these are the values of
    `pydicom.pixels.convert_color_space`, which knows no other number of bits.
    """
    # whole numbers of 16 bits and their sums are too fine for float32
    kind = np.float32 if bits <= 8 else np.float64
    shifted = values.astype(kind)
    shifted[..., 1:] -= 2 ** (bits - 1)
    mixed = shifted @ _YBR_TO_RGB.astype(kind)
    return np.clip(np.floor(mixed + kind(0.5)), 0, 2**bits - 1).astype(values.dtype)


def _native(header: Header, layout: PixelLayout, encoded: EncodedPixels) -> Colour:
    wide = PixelLayout(
        layout.rows * 3, layout.columns, layout.bits_allocated, layout.bits_stored, layout.high_bit, layout.signed
    )
    values = decode_stored_values(header, wide, encoded)
    if header.integer("PlanarConfiguration") == 1:
        return values.reshape(3, layout.rows, layout.columns).transpose(1, 2, 0)
    return values.reshape(layout.rows, layout.columns, 3)


def _upsample_422(header: Header, layout: PixelLayout, encoded: EncodedPixels) -> Colour:
    """Y1 Y2 Cb Cr for two neighbours in a row: both get the same colour (PS3.3 section C.7.6.3.1.2)."""
    check_transfer_syntax(header, encoded)
    if layout.columns % 2 or (layout.bits_allocated, layout.bits_stored) != (8, 8):
        raise UnsupportedImageError(header.path, "YBR_FULL_422 with an odd number of columns or other than 8 bits")
    pairs = np.frombuffer(encoded.data, np.uint8, layout.size * 2).reshape(layout.rows, layout.columns // 2, 4)
    values = np.empty((layout.rows, layout.columns, 3), np.uint8)
    values[:, 0::2, 0], values[:, 1::2, 0] = pairs[..., 0], pairs[..., 1]
    for channel in (1, 2):
        values[..., channel] = np.repeat(pairs[..., channel + 1], 2, axis=1)
    return values


def _compressed(header: Header, layout: PixelLayout, frame: bytes, space: str) -> tuple[Colour, str]:
    """The samples of a compressed frame and their colour space, RGB or one of YBR."""
    syntax = check_transfer_syntax(header, EncodedPixels(frame, "OB", True))
    if layout.rows * layout.columns > MAX_COMPRESSED_PIXELS:
        raise UnsupportedImageError(header.path, "more compressed pixels than are read")
    if syntax == RLELossless:
        if layout.size * 3 > 64 * len(frame):
            raise PixelDecodeError(header.path, "too few compressed bytes for an image of this size")
        if problem := rle_problem(frame, 3 * layout.bits_allocated // 8):
            raise PixelDecodeError(header.path, f"a damaged RLE frame: {problem}")
        if layout.bits_stored != layout.bits_allocated:
            raise UnsupportedImageError(header.path, "RLE colour samples that do not fill their cells")
    else:
        frame = raw_codestream(frame)
        _check_stream(header, layout, frame)
        space = _stream_space(header, frame, syntax, space)
    values = run_decoder(header, frame, layout, syntax, layout.bits_allocated, layout.bits_stored, 3)
    return values, space


def _check_stream(header: Header, layout: PixelLayout, frame: bytes) -> None:
    info = frame_info(frame)
    if info is None:
        raise PixelDecodeError(header.path, "the compressed pixel data do not start with a JPEG or JPEG 2000 header")
    if (info.rows, info.columns) != (layout.rows, layout.columns):
        raise PixelDecodeError(header.path, "the compressed image has another size than its header")
    if info.components != 3:
        raise UnsupportedImageError(header.path, f"{info.components} component(s) under a colour header")
    if info.precision != layout.bits_stored:
        raise UnsupportedImageError(
            header.path, f"compressed colours of {info.precision} bits, BitsStored is {layout.bits_stored}"
        )
    if not has_end_marker(frame):
        raise PixelDecodeError(header.path, "the compressed pixel data are cut off: no end marker")


def _stream_space(header: Header, frame: bytes, syntax: UID, space: str) -> str:
    """The space of the decoded samples: what the stream says, else what the header says."""
    if syntax in (*J2K_SYNTAXES, *HTJ2K_SYNTAXES):
        transformed = has_component_transform(frame)
        # RGB and YBR_RCT are both in use for a stream with the transform, as the samples come out as RGB
        if transformed != (space in ("YBR_RCT", "YBR_ICT")) and not (transformed and space == "RGB"):
            word = "a" if transformed else "no"
            raise UnsupportedImageError(header.path, f"{space} with {word} colour transform in the stream")
        return "RGB" if transformed else space
    try:
        return jpeg_space(frame) or space
    except ContradictoryColourError:
        raise UnsupportedImageError(header.path, "the stream names two colour spaces") from None
