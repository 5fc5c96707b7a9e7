"""How the pixels of a scanned file are stored: enough to read them later without parsing its header again."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from seqnorm_monai.images.dicom.errors import UnsupportedImageError
from seqnorm_monai.images.dicom.header import Header
from seqnorm_monai.images.dicom.pixels.decode import PixelLayout
from seqnorm_monai.images.dicom.pixels.grayscale import Rescale
from seqnorm_monai.images.dicom.pixels.luts import read_modality


@dataclass(frozen=True)
class Encoding:
    """Of a grayscale image; `size` and `mtime_ns` tell whether the file is still the one that was scanned."""

    layout: PixelLayout
    frames: int
    inverted: bool
    rescale: Rescale
    transfer_syntax: str
    pixel_offset: int
    size: int
    mtime_ns: int

    def header(self, path: Path) -> Header:
        """What finding and decoding the pixels needs of a header, from memory.

        Raises UnsupportedImageError when the file was replaced since the scan.
        """
        status = os.stat(path)
        if (status.st_size, status.st_mtime_ns) != (self.size, self.mtime_ns):
            raise UnsupportedImageError(path, "the file changed since it was scanned", "read the study again")
        return Header(path, Dataset(), True, self.transfer_syntax, "", self.pixel_offset)


def read_encoding(header: Header, layout: PixelLayout) -> Encoding | None:
    """None for what needs the header again: colour, palettes, lookup tables, big endian and deflated data sets.

    `layout` is that of `read_cells`.
    """
    photometric = header.code("PhotometricInterpretation")
    if (
        photometric not in ("MONOCHROME1", "MONOCHROME2")
        or (header.integer("SamplesPerPixel") or 1) != 1
        or header.pixel_offset is None
        or not header.little_endian
        or header.transfer_syntax == DeflatedExplicitVRLittleEndian
    ):
        return None
    modality = read_modality(header, signed=layout.signed)
    if not isinstance(modality, Rescale):
        return None
    status = os.stat(header.path)
    return Encoding(
        layout=layout,
        frames=header.frames(),
        inverted=photometric == "MONOCHROME1",
        rescale=modality,
        transfer_syntax=header.transfer_syntax,
        pixel_offset=header.pixel_offset,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
    )
