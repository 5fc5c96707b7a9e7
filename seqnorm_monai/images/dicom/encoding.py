"""How the pixels of a scanned file are stored: enough to read them later without parsing its header again."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from seqnorm_monai.images.dicom.errors import UnsupportedImageError
from seqnorm_monai.images.dicom.header import Header
from seqnorm_monai.images.dicom.pixels.grayscale import Rescale
from seqnorm_monai.images.dicom.pixels.layout import DECODE_KEYWORDS, PixelLayout
from seqnorm_monai.images.dicom.pixels.luts import LUT_KEYWORDS, read_modality
from seqnorm_monai.images.dicom.pixels.palette import PALETTE_KEYWORDS
from seqnorm_monai.images.dicom.sop_classes import is_physical

# all that decoding may ask a header for
ENCODING_KEYWORDS = (*DECODE_KEYWORDS, *LUT_KEYWORDS, *PALETTE_KEYWORDS, "PlanarConfiguration")
# what a grayscale image with a rescale has to keep: its other elements are in the layout
_OF_GRAYSCALE = tuple(keyword for keyword in LUT_KEYWORDS if keyword not in ("RescaleSlope", "RescaleIntercept"))
_GRAYSCALE = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True)
class Encoding:
    """`elements` are those that decoding needs beside the other fields, None where it needs none.

    `rescale` is None where a lookup table takes its place. `is_physical`: modality values are of a physical unit, which
    the polarity of the display does not change. `size` and `mtime_ns` tell whether the file is still the one
    that was scanned.
    """

    layout: PixelLayout
    frames: int
    samples: int
    photometric: str
    rescale: Rescale | None
    transfer_syntax: str
    little_endian: bool
    pixel_offset: int | None
    size: int
    mtime_ns: int
    is_physical: bool = False
    elements: Dataset | None = None

    @property
    def is_grayscale(self) -> bool:
        return self.samples == 1 and self.photometric in _GRAYSCALE

    def header(self, path: Path) -> Header:
        """What finding and decoding the pixels needs of a header, from memory.

        Raises UnsupportedImageError when the file was replaced since the scan.
        """
        status = os.stat(path)
        if (status.st_size, status.st_mtime_ns) != (self.size, self.mtime_ns):
            raise UnsupportedImageError(path, "the file changed since it was scanned", "read the study again")
        elements = Dataset() if self.elements is None else self.elements
        return Header(path, elements, self.little_endian, self.transfer_syntax, "", self.pixel_offset)


def read_encoding(header: Header, layout: PixelLayout) -> Encoding:
    """The encoding of a file with this layout. Raises UnsupportedImageError for contradictory attributes."""
    photometric = header.code("PhotometricInterpretation")
    samples = header.integer("SamplesPerPixel") or 1
    grayscale = samples == 1 and photometric in _GRAYSCALE
    modality = read_modality(header, stored_range=layout.stored_range) if grayscale else None
    rescale = modality if isinstance(modality, Rescale) else None
    # the layout of big endian words, and of a deflated data set, is found out with the header's help
    plain = header.little_endian and header.transfer_syntax != DeflatedExplicitVRLittleEndian
    kept = _OF_GRAYSCALE if rescale is not None and plain else ENCODING_KEYWORDS
    status = os.stat(header.path)
    return Encoding(
        layout=layout,
        frames=header.frames(),
        samples=samples,
        photometric=photometric,
        rescale=rescale,
        transfer_syntax=header.transfer_syntax,
        little_endian=header.little_endian,
        pixel_offset=header.pixel_offset,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        is_physical=is_physical(header),
        elements=_elements(header, kept),
    )


def _elements(header: Header, keywords: tuple[str, ...]) -> Dataset | None:
    """The raw elements of these keywords that the file has, as they are."""
    found = Dataset()
    for tag in map(tag_for_keyword, keywords):
        if tag in header.dataset:
            found[tag] = header.dataset.get_item(tag)
    return found if len(found) else None
