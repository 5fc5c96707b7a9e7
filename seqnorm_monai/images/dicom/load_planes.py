"""The pixels of planes: each file opened once, its frames decoded, rescaled and put where they belong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from seqnorm_monai.images.dicom.encoding import Encoding
from seqnorm_monai.images.dicom.errors import DicomReadError, PixelDecodeError, UnsupportedImageError
from seqnorm_monai.images.dicom.header import Header
from seqnorm_monai.images.dicom.pixels.colour import colour_frame_bits, decode_colour
from seqnorm_monai.images.dicom.pixels.decode import decode_stored_values
from seqnorm_monai.images.dicom.pixels.fragments import EncodedPixels, read_frames
from seqnorm_monai.images.dicom.pixels.grayscale import (
    LookupTable,
    Rescale,
    modality_range,
    modality_values,
    padding_mask,
    presentation_values,
)
from seqnorm_monai.images.dicom.pixels.layout import PixelLayout, StoredValues
from seqnorm_monai.images.dicom.pixels.luts import read_modality, read_padding, read_voi
from seqnorm_monai.images.dicom.pixels.palette import apply_palette
from seqnorm_monai.images.dicom.plane import Plane
from seqnorm_monai.images.dicom.silence import pydicom_silenced
from seqnorm_monai.images.image_array import MODALITY_VALUES, ReadOptions
from seqnorm_monai.images.machine_errors import raise_machine_error

# Integers up to this magnitude are exact in float32.
_EXACT = 2**24
Pixels = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
# a frame, and which of its pixels are padding where that was asked for
Frame = tuple[Pixels, Mask | None]


def load_planes(planes: Sequence[Plane], options: ReadOptions = MODALITY_VALUES) -> Pixels:
    """The pixels of planes (slices, rows, columns[, channels]), in their order.

    Values are those of the modality LUT (PS3.3 section C.11.1) or, with `apply_voi`, of the VOI LUT in [0, 1] (section
    C.11.2), in the polarity of MONOCHROME2; colour is RGB. MONOCHROME1 (section C.7.6.3.1.2) is reflected over
    the possible range, see `grayscale.modality_values`. Presentation LUT Shape is not consulted: in an image INVERSE
    accompanies MONOCHROME1 and IDENTITY accompanies MONOCHROME2 (sections C.8.11.3 and C.11.6), so it would invert
    twice. CT and PET keep their values: those are Hounsfield units and activities, whichever end is shown white; only
    `apply_voi` reflects them. With `fill_padding`, padding takes the smallest value of all other pixels, in either
    polarity; lossy compression blurs padding beyond recognition.

    Raises a DicomReadError that names the file.
    """
    by_file: dict[Path, list[tuple[int, Plane]]] = defaultdict(list)
    for index, plane in enumerate(planes):
        by_file[plane.path].append((index, plane))
    first = planes[0]
    shape = (first.rows, first.columns, *([first.channels] if first.channels > 1 else []))
    # empty pages: the memory is taken as the slices come
    pixels = np.empty((len(planes), *shape), np.float32)
    padding = np.zeros(pixels.shape if options.fill_padding else 0, np.bool_)
    with pydicom_silenced():
        for path, members in by_file.items():
            for index, (values, padded) in _decoded(path, members, options):
                if values.shape != shape:
                    raise UnsupportedImageError(path, "the image differs in size from the others of its series")
                pixels[index] = values
                if padded is not None:
                    padding[index] = padded
    return _filled(first.path, pixels, padding) if padding.any() else pixels


def _filled(path: Path, pixels: Pixels, padding: Mask) -> Pixels:
    if padding.all():
        raise UnsupportedImageError(path, "every pixel is padding (PixelPaddingValue)")
    pixels[padding] = pixels[~padding].min()
    return pixels


def _decoded(path: Path, members: list[tuple[int, Plane]], options: ReadOptions) -> Iterator[tuple[int, Frame]]:
    """The frames of one file that are asked for. Whatever goes wrong is a DicomReadError of this file."""
    try:
        encoding = members[0][1].encoding
        header, layout = encoding.header(path), encoding.layout
        frame_bits = colour_frame_bits(header, layout) if encoding.samples == 3 else layout.frame_bits
        encoded = read_frames(header, frame_bits, encoding.frames, [plane.frame for _, plane in members])
        for index, plane in members:
            yield index, _frame(header, encoding, encoded.pop(plane.frame), plane, options)
    except DicomReadError:
        raise
    except OSError as error:
        raise_machine_error(error)
        raise PixelDecodeError(path, "cannot be opened again") from None
    # a damaged file may raise anything; its text is not passed on
    except Exception as error:
        raise_machine_error(error)
        raise PixelDecodeError(path, f"the pixels cannot be read ({type(error).__name__})") from None


def _frame(header: Header, encoding: Encoding, encoded: EncodedPixels, plane: Plane, options: ReadOptions) -> Frame:
    layout, photometric = encoding.layout, encoding.photometric
    if encoding.samples == 3:
        return decode_colour(header, layout, encoded).astype(np.float32), None
    if not encoding.is_grayscale and photometric != "PALETTE COLOR":
        raise UnsupportedImageError(header.path, f"PhotometricInterpretation {photometric or 'missing'} of one sample")
    # the small elements first: a bad one is found without decoding
    limits = read_padding(header, signed=layout.signed) if options.fill_padding and encoding.is_grayscale else None
    stored = decode_stored_values(header, layout, encoded)
    if photometric == "PALETTE COLOR":
        return apply_palette(header, stored, signed=layout.signed).astype(np.float32), None
    modality = encoding.rescale if plane.rescale is None else Rescale(*plane.rescale)
    if modality is None:
        modality = read_modality(header, stored_range=layout.stored_range)
    inverted = photometric == "MONOCHROME1"
    if options.apply_voi:
        values = _shown(header, stored, layout, modality, inverted=inverted)
    else:
        values = gray_values(header.path, stored, layout, modality, inverted=inverted and not encoding.is_physical)
    return values, None if limits is None else padding_mask(stored, limits)


def _shown(
    header: Header, stored: StoredValues, layout: PixelLayout, modality: LookupTable | Rescale, *, inverted: bool
) -> Pixels:
    """Values in [0, 1] after the VOI LUT; over the possible range of modality values where the file has none."""
    voi = read_voi(header, modality_range=modality_range(layout.stored_range, modality))
    values = presentation_values(stored.astype(np.float64), layout.stored_range, modality, voi, invert=inverted)
    return values.astype(np.float32)


def gray_values(
    path: Path, stored: StoredValues, layout: PixelLayout, modality: LookupTable | Rescale, *, inverted: bool
) -> Pixels:
    """Modality values as float32, computed in float64 and rounded once; directly where every step is exact.

    Raises UnsupportedImageError when they exceed float32.
    """
    low, high = layout.stored_range
    if isinstance(modality, Rescale) and modality.slope == 1 and float(modality.intercept).is_integer():
        offset = modality.intercept
        if max(abs(low), abs(high), abs(low + high + offset)) + abs(offset) < _EXACT:
            if inverted:
                return np.subtract(np.float32(low + high + offset), stored, dtype=np.float32)
            return np.add(stored, np.float32(offset), dtype=np.float32)
    values = modality_values(stored.astype(np.float64), layout.stored_range, modality, invert=inverted)
    with np.errstate(over="ignore"):
        pixels = values.astype(np.float32)
    if not np.isfinite(pixels).all():
        raise UnsupportedImageError(path, "the rescaled values exceed float32 (RescaleSlope, RescaleIntercept)")
    return pixels
