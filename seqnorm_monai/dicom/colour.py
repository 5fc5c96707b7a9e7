"""Colour frames to RGB: sample order, YBR, palettes (PS3.3 sections C.7.6.3.1 and C.7.9)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_color_lut, convert_color_space, get_decoder
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGExtended12Bit, RLELossless

from seqnorm_monai.dicom.codestream import frame_info, rle_problem
from seqnorm_monai.dicom.decode import MAX_COMPRESSED_PIXELS, PixelLayout, decode_stored_values
from seqnorm_monai.dicom.errors import PixelDecodeError, UnsupportedImageError
from seqnorm_monai.dicom.header import Header
from seqnorm_monai.dicom.pixeldata import EncodedPixels
from seqnorm_monai.dicom.quiet import quiet_pydicom

PALETTE_KEYWORDS = tuple(
    f"{prefix}{colour}PaletteColorLookupTable{part}"
    for colour in ("Red", "Green", "Blue")
    for prefix, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
)
_SPACES = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")

Colour = npt.NDArray[np.integer]


def apply_palette(header: Header, indices: npt.NDArray[np.integer]) -> Colour:
    """RGB (rows, columns, 3) of palette indices, in the bits of the lookup table."""
    try:
        with quiet_pydicom():
            return apply_color_lut(indices, header.dataset)
    # a damaged table raises whatever it leads to
    except Exception as error:
        raise UnsupportedImageError(header.path, f"the colour palette is unusable ({type(error).__name__})") from None


def colour_frame_bytes(header: Header, layout: PixelLayout) -> int:
    """Bytes of one native frame; YBR_FULL_422 has two samples for each pixel instead of three."""
    return layout.size * (2 if header.code("PhotometricInterpretation") == "YBR_FULL_422" else 3)


def decode_colour(header: Header, layout: PixelLayout, encoded: EncodedPixels) -> Colour:
    """One frame of three samples as RGB (rows, columns, 3). Raises UnsupportedImageError or PixelDecodeError."""
    space = header.code("PhotometricInterpretation")
    if space not in _SPACES:
        raise UnsupportedImageError(header.path, f"PhotometricInterpretation {space or 'missing'} of three samples")
    if layout.bits_stored != layout.bits_allocated or layout.signed:
        raise UnsupportedImageError(header.path, "colour samples that are signed or do not fill their cells")
    if encoded.encapsulated:
        return _compressed(header, layout, encoded.data, space)
    unpack = _upsample_422 if space == "YBR_FULL_422" else _native
    values = unpack(header, layout, encoded)
    if space in ("YBR_FULL", "YBR_FULL_422"):
        with quiet_pydicom():
            return convert_color_space(values, "YBR_FULL", "RGB")
    return values


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
    if layout.columns % 2 or layout.bits_allocated != 8:
        raise UnsupportedImageError(header.path, "YBR_FULL_422 with an odd number of columns or more than 8 bits")
    pairs = np.frombuffer(encoded.data, np.uint8, layout.size * 2).reshape(layout.rows, layout.columns // 2, 4)
    values = np.empty((layout.rows, layout.columns, 3), np.uint8)
    values[:, 0::2, 0], values[:, 1::2, 0] = pairs[..., 0], pairs[..., 1]
    for channel in (1, 2):
        values[..., channel] = np.repeat(pairs[..., channel + 1], 2, axis=1)
    return values


def _compressed(header: Header, layout: PixelLayout, frame: bytes, space: str) -> Colour:
    syntax = UID(header.transfer_syntax)
    if layout.rows * layout.columns > MAX_COMPRESSED_PIXELS:
        raise UnsupportedImageError(header.path, "more compressed pixels than are read")
    if syntax == RLELossless:
        if layout.size * 3 > 64 * len(frame):
            raise PixelDecodeError(header.path, "too few compressed bytes for an image of this size")
        if problem := rle_problem(frame, 3 * layout.bits_allocated // 8):
            raise PixelDecodeError(header.path, f"a damaged RLE frame: {problem}")
    else:
        info = frame_info(frame)
        if info is None:
            raise PixelDecodeError(header.path, "the compressed pixel data do not start with a JPEG header")
        if (info.rows, info.columns, info.components) != (layout.rows, layout.columns, 3):
            raise PixelDecodeError(header.path, "the compressed image has another size than its header")
    try:
        with quiet_pydicom():
            values, _ = get_decoder(syntax).as_array(
                encapsulate([frame], has_bot=False),
                rows=layout.rows,
                columns=layout.columns,
                number_of_frames=1,
                samples_per_pixel=3,
                planar_configuration=header.integer("PlanarConfiguration") or 0,
                photometric_interpretation=space,
                bits_allocated=layout.bits_allocated,
                bits_stored=layout.bits_stored,
                pixel_representation=0,
                pixel_keyword="PixelData",
                # Not GDCM, which pydicom asks first: damaged streams end the process.
                decoding_plugin="pillow" if syntax in (JPEGBaseline8Bit, JPEGExtended12Bit) else "",
            )
    # whatever a decoder raises on damaged data, without its text; a panic of one written in Rust is no Exception
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
            raise
        raise PixelDecodeError(
            header.path, f"{syntax.name} pixel data cannot be decoded ({type(error).__name__})"
        ) from None
    return values
