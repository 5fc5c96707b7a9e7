"""The bytes of a NIfTI file: plain or gzip, one file or a pair, never more in memory than was asked for."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from seqnorm_monai.nifti.errors import NiftiReadError

# NIfTI-2 has the longer header, 540 bytes; 4 more tell of extensions.
HEADER_BYTES = 544
_GZIP = b"\x1f\x8b"
# Deflate codes at most 258 bytes in 2 bits: what a compressed file cannot hold is refused before it is unpacked.
MAX_DEFLATE_RATIO = 1032
_CHUNK = 1 << 24
_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".hdr.gz")


def is_nifti(path: str | os.PathLike[str]) -> bool:
    """Whether a file is for the NIfTI reader: by its magic number, or by a name that no other format has.

    So a renamed file is read, and a damaged ``.nii`` is refused as NIfTI. ``.hdr`` counts with a NIfTI or Analyze
    header only: other formats use the suffix too. False for what cannot be opened.
    """
    name = Path(path).name.lower()
    try:
        start = read_start(Path(path))
    except NiftiReadError:
        start = b""
    sizes = (start[:4], start[:4][::-1])
    known = has_magic(start) or (name.endswith(_SUFFIXES[2:]) and (348).to_bytes(4, "little") in sizes)
    return known or name.endswith(_SUFFIXES[:2])


def has_magic(start: bytes) -> bool:
    """Whether a header has the magic number of NIfTI-1 (at byte 344) or NIfTI-2 (at byte 4)."""
    return start[344:348] in (b"n+1\0", b"ni1\0") or start[4:8] in (b"n+2\0", b"ni2\0")


def voxel_file(path: str | os.PathLike[str]) -> Path | None:
    """The ``.img`` beside a ``.hdr``, whatever their case and compression; None for a single file or a lone header.

    Raises nothing: a name without ``.hdr`` has no such file.
    """
    path = Path(path)
    lower = path.name.lower()
    for suffix in (".hdr", ".hdr.gz"):
        if lower.endswith(suffix):
            stem = path.name[: -len(suffix)]
            for ending in (".img", ".IMG", ".img.gz", ".IMG.GZ"):
                if path.with_name(stem + ending).is_file():
                    return path.with_name(stem + ending)
    return None


def read_start(path: Path) -> bytes:
    """The first bytes of a file, unpacked; fewer where it ends. Raises NiftiReadError."""
    with opened(path) as file:
        return _read(path, file, HEADER_BYTES)


def check_size(path: Path, end: int) -> None:
    """Refuse a file that cannot hold `end` bytes, by its length alone. Raises NiftiReadError."""
    with _raising(path):
        size = path.stat().st_size
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
    if end > size * (MAX_DEFLATE_RATIO if packed else 1):
        held = f"{size} bytes" + (" of gzip" if packed else "")
        raise NiftiReadError(path, f"cut off: the header asks for {end} bytes, the file has {held}", "copy it anew")


def read_range(path: Path, start: int, length: int, *, last: bool) -> tuple[bytearray, bool]:
    """`length` bytes from `start`, and whether more follow them although they are the `last` to be read.

    Memory grows with the bytes that are there, not with `length`. A gzip file is read to its end after the last bytes,
    because its checksum stands there. Raises NiftiReadError for what ends too early or is damaged.
    """
    check_size(path, start + length)
    content = bytearray()
    with opened(path) as file, _raising(path):
        # A compressed file is read up to `start`, in pieces.
        file.seek(start)
        while len(content) < length:
            piece = _read(path, file, min(_CHUNK, length - len(content)))
            if not piece:
                raise NiftiReadError(path, "cut off: fewer voxels than the header says", "copy it anew")
            content += piece
        # A read beyond the end makes gzip check its sum; what follows the voxels is not unpacked for that.
        more = last and bool(_read(path, file, 1))
    return content, more


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file, unpacked on the way if it is gzip by its first bytes. Raises NiftiReadError."""
    with _raising(path):
        file = path.open("rb")
    with file, _raising(path):
        packed = file.read(2) == _GZIP
        file.seek(0)
        yield gzip.GzipFile(fileobj=file, mode="rb") if packed else file


def _read(path: Path, file: BinaryIO, length: int) -> bytes:
    with _raising(path):
        return file.read(length)


@contextmanager
def _raising(path: Path) -> Iterator[None]:
    """Errors of the file system and of gzip as NiftiReadError."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        reason = "cut off" if isinstance(error, EOFError) else "damaged"
        raise NiftiReadError(path, f"the gzip file is {reason}", "copy it anew") from None
    except FileNotFoundError:
        raise NiftiReadError(path, "no such file") from None
    except OSError as error:
        raise NiftiReadError(path, f"cannot be read ({type(error).__name__})") from None
