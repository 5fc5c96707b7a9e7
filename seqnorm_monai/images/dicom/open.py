"""Open a file, make sure that it is DICOM, and read chosen elements of its header."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.dataset import FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from seqnorm_monai.images.dicom.errors import NotDicomError, UnreadableFileError
from seqnorm_monai.images.dicom.header import Header
from seqnorm_monai.images.dicom.identifiers import is_uid
from seqnorm_monai.images.dicom.silence import pydicom_silenced
from seqnorm_monai.images.machine_errors import raise_machine_error

_PREAMBLE = 128
# What may be asked for at once (bytes) without looking how much there is.
_SMALL_READ = 1 << 16
_OTHER_FORMATS = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x00\x00\x00\x0cjP": "a JPEG 2000 image",
    b"GIF8": "a GIF image",
    b"BM": "a BMP image",
    b"II*\0": "a TIFF image",
    b"MM\0*": "a TIFF image",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip file",
    b"version https://git-lfs": "a Git LFS pointer, the file itself was not downloaded",
}


def read_header(path: str | os.PathLike[str], keywords: Iterable[str]) -> Header:
    """`open_header` for those who need nothing else of the file."""
    with open_header(path, keywords) as header:
        return header


@contextmanager
def open_header(path: str | os.PathLike[str], keywords: Iterable[str]) -> Iterator[Header]:
    """Read the elements named by `keywords` (and no others) of a DICOM file, up to its pixel data.

    Inside the context the file stays open: what reads on through `Header.opened` does not open it again. A file without
    the preamble and the meta information of PS3.10 section 7.1 is accepted if it parses as a data set with a SOP class.

    Raises UnreadableFileError or NotDicomError.
    """
    path = Path(path)
    with _open(path) as file:
        yield _parsed(path, file, [*keywords, "SOPClassUID"])


def _parsed(path: Path, file: BinaryIO, tags: list[str]) -> Header:
    start = file.read(_PREAMBLE + 4)
    has_preamble = start[_PREAMBLE:] == b"DICM"
    if not has_preamble:
        _refuse_other_formats(path, start)
    file.seek(0)
    try:
        with pydicom_silenced():
            dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=tags)
    # pydicom raises whatever the damaged bytes led to, and its text may quote them: neither is passed on.
    except Exception as error:
        raise_machine_error(error)
        raise NotDicomError(path, f"the header cannot be parsed ({type(error).__name__})") from None
    header = _header(path, dataset, file)
    if not has_preamble and not is_uid(header.text("SOPClassUID")):
        raise NotDicomError(path, "not a DICOM file: neither the DICM prefix nor a data set with a SOP class")
    return header


class _Bounded(io.BufferedReader):
    """Asks for no more bytes than the file has: a length that a damaged header claims costs no such memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _SMALL_READ:
            size = min(size, os.fstat(self.fileno()).st_size)
        return super().read(size)


def _open(path: Path) -> BinaryIO:
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise UnreadableFileError(path, "a directory, not a file", "name one DICOM file")
        if not stat.S_ISREG(mode):
            raise UnreadableFileError(path, "not a regular file")
        return _Bounded(path.open("rb", buffering=0))
    except FileNotFoundError:
        raise UnreadableFileError(path, "no such file") from None
    except PermissionError:
        raise UnreadableFileError(path, "no permission to read it") from None
    except OSError as error:
        raise_machine_error(error)
        raise UnreadableFileError(path, f"cannot be opened ({error.strerror})") from None


def _refuse_other_formats(path: Path, start: bytes) -> None:
    """Raise NotDicomError unless `start` may be the start of a data set without a preamble."""
    if not start:
        raise NotDicomError(path, "an empty file")
    for magic, name in _OTHER_FORMATS.items():
        if start.startswith(magic):
            raise NotDicomError(path, f"not a DICOM file but {name}")
    if start.lstrip()[:9].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise NotDicomError(path, "not a DICOM file but an HTML or XML page", "the download may have failed")
    # A data set opens with group 0002, or 0008 where the meta information is lost too, in either byte order.
    if start[:2] not in (b"\x02\0", b"\0\x02", b"\x08\0", b"\0\x08"):
        kind = "text" if start.isascii() and b"\0" not in start else "no DICM prefix after 128 bytes"
        raise NotDicomError(path, f"not a DICOM file: {kind}")


def _header(path: Path, dataset: FileDataset, file: BinaryIO) -> Header:
    meta = Header(path, dataset.file_meta, little_endian=True)
    transfer_syntax = meta.text("TransferSyntaxUID")
    # pydicom stops in front of the pixel data; of a deflated file it has read, and inflated, everything.
    at_end = transfer_syntax == DeflatedExplicitVRLittleEndian or not file.read(1)
    return Header(
        path=path,
        dataset=dataset,
        little_endian=bool(dataset.original_encoding[1]),
        transfer_syntax=transfer_syntax,
        media_storage_class=meta.text("MediaStorageSOPClassUID"),
        pixel_offset=None if at_end else file.seek(-1, os.SEEK_CUR),
        file=file,
    )
