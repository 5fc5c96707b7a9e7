"""The bytes of a NIfTI file: plain or gzip, one file or a pair, never more in memory than was asked for."""

from __future__ import annotations

import os
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from seqnorm_monai.images.machine_errors import raise_machine_error
from seqnorm_monai.images.nifti.errors import NiftiReadError

# NIfTI-2 has the longer header, 540 bytes; 4 more tell of extensions.
HEADER_BYTES = 544
_GZIP = b"\x1f\x8b"
# zlib: the window of deflate, in the wrapping of gzip
_GZIP_WINDOW = 31
# Deflate codes at most 258 bytes in 2 bits: what a compressed file cannot hold is refused before it is unpacked.
MAX_DEFLATE_RATIO = 1032
# Writers fill the last block of a disk; what is more was meant to be voxels.
MAX_PADDING = 4096
_PACKED_PIECE, _PIECE = 1 << 18, 1 << 22
_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".hdr.gz")
# Files whose checksum was found right: path, size and time of change -> how many bytes they unpack to.
_checked: dict[tuple[str, int, int], int] = {}
_MAX_CHECKED = 4096


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


def has_nifti_name(path: str | os.PathLike[str]) -> bool:
    """Whether a file is named as NIfTI or as the header of a pair; nothing is opened."""
    return Path(path).name.lower().endswith(_SUFFIXES)


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
    with _opened(path) as file:
        if not _is_packed(file):
            return file.read(HEADER_BYTES)
        start = b""
        for piece in _unpacked(file, HEADER_BYTES):
            start += piece
            if len(start) >= HEADER_BYTES:
                break
        return start[:HEADER_BYTES]


def check_size(path: Path, end: int) -> None:
    """Refuse a file that by its length alone cannot hold `end` bytes, or holds many more. Raises NiftiReadError."""
    with _opened(path) as file:
        packed = _is_packed(file)
        size = os.fstat(file.fileno()).st_size
    if end > size * (MAX_DEFLATE_RATIO if packed else 1):
        held = f"{size} bytes" + (" of gzip" if packed else "")
        raise NiftiReadError(path, f"cut off: the header asks for {end} bytes, the file has {held}", "copy it anew")
    if not packed:
        _check_rest(path, size - end)


def read_ranges(path: Path, starts: Sequence[int], length: int, end: int) -> Iterator[bytes | bytearray]:
    """`length` bytes from each of `starts`, in one pass over a file whose voxels stop at `end`.

    `starts` ascend and the ranges do not overlap. Memory holds one of them, and grows with the bytes that are there,
    not with `length`. A gzip file is read to its end once in a process, because its checksum stands there: the
    iterator raises behind the last range what is wrong with the rest.

    Raises NiftiReadError for what ends too early, is damaged, or goes on for long behind the voxels.
    """
    if any(after - before < length for before, after in pairwise(starts)):
        raise ValueError("starts must ascend by length or more")
    check_size(path, end)
    with _opened(path) as file:
        if _is_packed(file):
            yield from _packed_ranges(path, file, starts, length, end)
            return
        for start in starts:
            file.seek(start)
            content = file.read(length)
            if len(content) < length:
                raise _cut_off(path)
            yield content


def bytes_behind(path: Path, end: int) -> int:
    """How many bytes there are behind the voxels, which stop at `end`; a checked gzip file is not unpacked again.

    Raises NiftiReadError as `read_ranges` does.
    """
    with _opened(path) as file:
        if not _is_packed(file):
            return os.fstat(file.fileno()).st_size - end
        size = _checked.get(_identity(path, file))
        if size is None:
            size = sum(len(piece) for piece in _checked_pieces(path, file, end))
    return size - end


def _packed_ranges(path: Path, file: BinaryIO, starts: Sequence[int], length: int, end: int) -> Iterator[bytearray]:
    is_checked = _identity(path, file) in _checked
    wanted, content, position = deque(starts), bytearray(), 0
    for piece in _checked_pieces(path, file, end):
        view = memoryview(piece)
        while wanted:
            first, last = wanted[0] - position, wanted[0] + length - position
            content += view[max(0, first) : max(0, last)]
            if len(content) < length:
                break
            yield content
            wanted.popleft()
            content = bytearray()
        if is_checked and not wanted:
            return
        position += len(piece)


def _checked_pieces(path: Path, file: BinaryIO, end: int) -> Iterator[bytes]:
    """What a gzip file unpacks to, with a note of its size once all of it was found right."""
    identity, position = _identity(path, file), 0
    for piece in _unpacked(file, _PIECE):
        position += len(piece)
        _check_rest(path, position - end)
        yield piece
    if position < end:
        raise _cut_off(path)
    if len(_checked) >= _MAX_CHECKED:
        _checked.clear()
    _checked[identity] = position


def _identity(path: Path, file: BinaryIO) -> tuple[str, int, int]:
    status = os.fstat(file.fileno())
    return os.path.abspath(path), status.st_size, status.st_mtime_ns


def _unpacked(file: BinaryIO, piece_bytes: int) -> Iterator[bytes]:
    """What the members of a gzip file unpack to, in pieces of at most `piece_bytes`.

    Raises EOFError or zlib.error: the sum and the length at the end of each member are checked when it is reached.
    """
    unpacker = zlib.decompressobj(_GZIP_WINDOW)
    packed = file.read(_PACKED_PIECE)
    while packed:
        while packed and not unpacker.eof:
            if piece := unpacker.decompress(packed, piece_bytes):
                yield piece
            packed = unpacker.unconsumed_tail
        if unpacker.eof:
            # behind a member stands another one, or padding
            packed = (unpacker.unused_data or file.read(_PACKED_PIECE)).lstrip(b"\0")
            while not packed and (packed := file.read(_PACKED_PIECE)):
                packed = packed.lstrip(b"\0")
            if not packed:
                return
            unpacker = zlib.decompressobj(_GZIP_WINDOW)
        else:
            packed = file.read(_PACKED_PIECE)
    while piece := unpacker.decompress(b"", piece_bytes):
        yield piece
    if not unpacker.eof:
        raise EOFError


def _check_rest(path: Path, rest: int) -> None:
    if rest > MAX_PADDING:
        raise NiftiReadError(
            path, "more voxels than the header describes", "dim or datatype is wrong: take the header of the original"
        )


def _cut_off(path: Path) -> NiftiReadError:
    return NiftiReadError(path, "cut off: fewer voxels than the header says", "copy it anew")


def _is_packed(file: BinaryIO) -> bool:
    packed = file.read(2) == _GZIP
    file.seek(0)
    return packed


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file; errors of the file system and of gzip, met while it is open, as NiftiReadError."""
    try:
        with path.open("rb") as file:
            yield file
    except (EOFError, zlib.error) as error:
        reason = "cut off" if isinstance(error, EOFError) else "damaged"
        raise NiftiReadError(path, f"the gzip file is {reason}", "copy it anew") from None
    except FileNotFoundError:
        raise NiftiReadError(path, "no such file") from None
    except OSError as error:
        raise_machine_error(error)
        raise NiftiReadError(path, f"cannot be read ({type(error).__name__})") from None
