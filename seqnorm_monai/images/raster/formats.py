"""Which format a file has: its first bytes say so, whatever its name."""

from __future__ import annotations

import os

from seqnorm_monai.images.machine_errors import raise_machine_error

_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff")
# TIFF 6.0 section 2; the second pair is BigTIFF
_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
# where the preamble of a DICOM file ends, which may be the header of a TIFF file (PS3.10 section 7.1)
_DICOM = slice(128, 132)


def has_raster_name(path: str | os.PathLike[str]) -> bool:
    """Whether the name of a file is one of a PNG, JPEG or TIFF file."""
    return os.fspath(path).lower().endswith(_SUFFIXES)


def raster_format(path: str | os.PathLike[str]) -> str:
    """ "PNG", "JPEG" or "TIFF" by the first bytes; "" for any other file, and for one that cannot be opened."""
    try:
        with open(path, "rb") as stream:
            start = stream.read(_DICOM.stop)
    except OSError as error:
        raise_machine_error(error)
        return ""
    if start[_DICOM] == b"DICM":
        return ""
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if start.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    # a DICOM file that was cut off within its preamble begins so, too; no image of any size is as short as that
    return "TIFF" if start.startswith(_TIFF) and len(start) >= _DICOM.stop else ""
