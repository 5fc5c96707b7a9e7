"""How the samples of a frame are stored, by the attributes of the Image Pixel module (PS3.3 section C.7.6.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seqnorm_monai.images.dicom.errors import UnsupportedImageError
from seqnorm_monai.images.dicom.header import Header
from seqnorm_monai.images.dicom.pixels.fragments import refuse_float

StoredValues = npt.NDArray[np.integer]

_ALLOCATED = (1, 8, 16, 32)
DECODE_KEYWORDS = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)


@dataclass(frozen=True)
class PixelLayout:
    """The attributes of the Image Pixel module (PS3.3 section C.7.6.3) that describe the stored values.

    `high_bit` is believed (PS3.5 section 8.1.1): where a writer put 15 by mistake for 12 bits in the low end of a cell,
    values come out 16 times too small, and other than from readers that ignore High Bit, as pydicom does.
    """

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool

    @property
    def frame_bits(self) -> int:
        """Of one sample for each pixel. Frames of single bits follow each other without padding."""
        return self.rows * self.columns * self.bits_allocated

    @property
    def size(self) -> int:
        """Bytes of the native encoding of one frame."""
        return -(-self.frame_bits // 8)

    @property
    def stored_range(self) -> tuple[int, int]:
        """The smallest and the largest value that can be stored."""
        span = 1 << self.bits_stored
        return (-span // 2, span // 2 - 1) if self.signed else (0, span - 1)


def read_pixel_layout(header: Header) -> PixelLayout:
    """How one sample of a frame is stored, whatever the number of frames and samples.

    Raises UnsupportedImageError for missing or contradictory attributes.
    """
    if header.integer("BitsStored") is None:
        # of floating-point pixels it is missing by right (PS3.3 section C.7.6.24)
        refuse_float(header)
    rows, columns, allocated, stored = (
        _required(header, keyword) for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored")
    )
    representation = _required(header, "PixelRepresentation")
    high_bit = header.integer("HighBit")
    high_bit = stored - 1 if high_bit is None else high_bit
    if not (rows and columns):
        raise UnsupportedImageError(header.path, f"an image of {rows} rows and {columns} columns")
    if allocated not in _ALLOCATED:
        raise UnsupportedImageError(header.path, f"BitsAllocated {allocated}, supported are 1, 8, 16 and 32")
    if not 1 <= stored <= allocated or not stored - 1 <= high_bit < allocated:
        raise UnsupportedImageError(
            header.path, f"BitsStored {stored} and HighBit {high_bit} do not fit BitsAllocated {allocated}"
        )
    if representation not in (0, 1):
        raise UnsupportedImageError(header.path, f"PixelRepresentation {representation}, allowed are 0 and 1")
    if allocated == 1 and (representation == 1 or not header.little_endian):
        raise UnsupportedImageError(header.path, "single bits that are signed or in big endian words")
    return PixelLayout(rows, columns, allocated, stored, high_bit, representation == 1)


def _required(header: Header, keyword: str) -> int:
    value = header.integer(keyword)
    if value is None:
        raise UnsupportedImageError(header.path, f"{keyword} is missing")
    return value
