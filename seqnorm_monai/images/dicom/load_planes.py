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
from seqnorm_monai.images.dicom.open import read_header
from seqnorm_monai.images.dicom.pixels.colour import colour_frame_bits, decode_colour
from seqnorm_monai.images.dicom.pixels.decode import DECODE_KEYWORDS, PixelLayout, decode_stored_values, read_cells
from seqnorm_monai.images.dicom.pixels.fragments import read_frames
from seqnorm_monai.images.dicom.pixels.grayscale import LookupTable, Rescale, modality_values
from seqnorm_monai.images.dicom.pixels.luts import LUT_KEYWORDS, read_modality
from seqnorm_monai.images.dicom.pixels.palette import PALETTE_KEYWORDS, apply_palette
from seqnorm_monai.images.dicom.pixels.pixeldata import EncodedPixels
from seqnorm_monai.images.dicom.plane import Plane
from seqnorm_monai.images.dicom.silence import pydicom_silenced

_KEYWORDS = (*DECODE_KEYWORDS, *LUT_KEYWORDS, *PALETTE_KEYWORDS, "PlanarConfiguration", "SOPInstanceUID")
# Integers up to this magnitude are exact in float32.
_EXACT = 2**24
Pixels = npt.NDArray[np.float32]


def load_planes(planes: Sequence[Plane]) -> Pixels:
    """The pixels of planes (slices, rows, columns[, channels]), in their order.

    Values are those of the modality LUT (PS3.3 section C.11.1), MONOCHROME1 in the polarity of MONOCHROME2, colour as
    RGB. Raises a DicomReadError that names the file.
    """
    by_file: dict[Path, list[tuple[int, Plane]]] = defaultdict(list)
    for index, plane in enumerate(planes):
        by_file[plane.path].append((index, plane))
    first = planes[0]
    shape = (first.rows, first.columns, *([first.channels] if first.channels > 1 else []))
    # empty pages: the memory is taken as the slices come
    pixels = np.empty((len(planes), *shape), np.float32)
    with pydicom_silenced():
        for path, members in by_file.items():
            for index, values in _decoded(path, members):
                if values.shape != shape:
                    raise UnsupportedImageError(path, "the image differs in size from the others of its series")
                pixels[index] = values
    return pixels


def _decoded(path: Path, members: list[tuple[int, Plane]]) -> Iterator[tuple[int, Pixels]]:
    """The frames of one file that are asked for. Whatever goes wrong is a DicomReadError of this file."""
    try:
        encoding = members[0][1].encoding
        if encoding is None:
            yield from _by_header(path, members)
        else:
            yield from _by_encoding(path, encoding, members)
    except DicomReadError:
        raise
    except OSError:
        raise PixelDecodeError(path, "cannot be opened again") from None
    # a damaged file may raise anything; its text is not passed on
    except Exception as error:
        raise PixelDecodeError(path, f"the pixels cannot be read ({type(error).__name__})") from None


def _by_encoding(path: Path, encoding: Encoding, members: list[tuple[int, Plane]]) -> Iterator[tuple[int, Pixels]]:
    header, layout = encoding.header(path), encoding.layout
    wanted = [plane.frame for _, plane in members]
    encoded = read_frames(header, layout.frame_bits, encoding.frames, wanted)
    for index, plane in members:
        rescale = encoding.rescale if plane.rescale is None else Rescale(*plane.rescale)
        stored = decode_stored_values(header, layout, encoded.pop(plane.frame))
        yield index, gray_values(path, stored, layout, rescale, inverted=encoding.inverted)


def _by_header(path: Path, members: list[tuple[int, Plane]]) -> Iterator[tuple[int, Pixels]]:
    header = read_header(path, _KEYWORDS)
    plane = members[0][1]
    layout = read_cells(header)
    if (layout.rows, layout.columns, header.identifier("SOPInstanceUID")) != (
        plane.rows,
        plane.columns,
        plane.sop_instance_uid,
    ):
        raise UnsupportedImageError(path, "the file changed since it was scanned", "read the study again")
    colour = (header.integer("SamplesPerPixel") or 1) == 3
    frame_bits = colour_frame_bits(header, layout) if colour else layout.frame_bits
    frames = header.frames()
    encoded = read_frames(header, frame_bits, frames, [plane.frame for _, plane in members])
    for index, plane in members:
        yield index, _values(header, layout, encoded.pop(plane.frame), plane)


def _values(header: Header, layout: PixelLayout, encoded: EncodedPixels, plane: Plane) -> Pixels:
    photometric = header.code("PhotometricInterpretation")
    if (header.integer("SamplesPerPixel") or 1) == 3:
        return decode_colour(header, layout, encoded).astype(np.float32)
    if photometric not in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"):
        raise UnsupportedImageError(header.path, f"PhotometricInterpretation {photometric or 'missing'} of one sample")
    stored = decode_stored_values(header, layout, encoded)
    if photometric == "PALETTE COLOR":
        return apply_palette(header, stored, signed=layout.signed).astype(np.float32)
    own = plane.rescale
    modality = read_modality(header, signed=layout.signed) if own is None else Rescale(*own)
    return gray_values(header.path, stored, layout, modality, inverted=photometric == "MONOCHROME1")


def gray_values(
    path: Path,
    stored: npt.NDArray[np.integer],
    layout: PixelLayout,
    modality: LookupTable | Rescale,
    *,
    inverted: bool,
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
