"""Colour frames to RGB: order of samples and colour spaces (PS3.3 section C.7.6.3.1)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydicom.pixels.utils import expand_ybr422
from pydicom.uid import UID, RLELossless

from seqnorm_monai.images.dicom.errors import UnsupportedImageError
from seqnorm_monai.images.dicom.header import Header
from seqnorm_monai.images.dicom.pixels.codestream import (
    ContradictoryColourError,
    has_component_transform,
    jpeg_space,
    raw_codestream,
)
from seqnorm_monai.images.dicom.pixels.decode import (
    check_stream,
    check_transfer_syntax,
    decode_stored_values,
    run_decoder,
)
from seqnorm_monai.images.dicom.pixels.decoders import HTJ2K_SYNTAXES, J2K_SYNTAXES
from seqnorm_monai.images.dicom.pixels.fragments import EncodedPixels
from seqnorm_monai.images.dicom.pixels.layout import PixelLayout

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
        values, space = _compressed(header, layout, encoded, space)
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
    samples = expand_ybr422(encoded.data[: layout.size * 2], layout.bits_allocated)
    return np.frombuffer(samples, np.uint8).reshape(layout.rows, layout.columns, 3)


def _compressed(header: Header, layout: PixelLayout, encoded: EncodedPixels, space: str) -> tuple[Colour, str]:
    """The samples of a compressed frame and their colour space, RGB or one of YBR."""
    syntax = check_transfer_syntax(header, encoded)
    frame = raw_codestream(encoded.data)
    precision = check_stream(header, frame, layout, syntax, samples=3)
    if precision != layout.bits_stored:
        # of RLE: samples that do not fill their cells
        raise UnsupportedImageError(
            header.path, f"compressed colours of {precision} bits, BitsStored is {layout.bits_stored}"
        )
    if syntax != RLELossless:
        space = _stream_space(header, frame, syntax, space)
    return run_decoder(header, frame, layout, syntax, precision, samples=3), space


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
