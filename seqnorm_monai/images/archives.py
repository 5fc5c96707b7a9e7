"""Unpack a ZIP archive that nobody vouches for: its good members into a folder, the others refused by name."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from seqnorm_monai.images.dicom.errors import UnreadableFileError
from seqnorm_monai.images.machine_errors import raise_machine_error

_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
# Documents are ZIP files too (.docx, .npz, .jar): what has a name of its own is left to its own reader.
_SUFFIXES = ("", ".zip")
# The end record of the directory: 22 bytes and a comment of at most 65,535 (APPNOTE.TXT section 4.3.16).
_END = struct.Struct("<4s4H2LH")
_END_SEARCH = _END.size + 65_535
_CHUNK = 1 << 20
_ENCRYPTED = 1


@dataclass(frozen=True)
class ArchiveLimits:
    """What one archive may hold; members beyond are refused, those before them used.

    `directory_bytes` bounds the archive's list of members, which is read into memory as a whole. `ratio` is how many
    bytes all members may become per byte of the archive, counted once they are more than `free_bytes`: deflate packs
    an empty image up to 1,032 : 1, so that the ratio of one small member says nothing.
    """

    members: int = 100_000
    directory_bytes: int = 16 << 20
    member_bytes: int = 16 << 30
    total_bytes: int = 128 << 30
    ratio: float = 100.0
    free_bytes: int = 1 << 30


DEFAULT_LIMITS = ArchiveLimits()


@dataclass(frozen=True)
class Member:
    """One member of an archive: its name in it, and where it was unpacked or why it was not (the other is empty)."""

    name: str
    path: Path | None = None
    reason: str = ""


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Whether the file starts like a ZIP archive and is not named as a document. False if it cannot be read."""
    if Path(path).suffix.lower() not in _SUFFIXES and not _is_number(Path(path).suffix):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(4) in _MAGICS
    except OSError as error:
        raise_machine_error(error)
        return False


def unpack(path: str | os.PathLike[str], folder: Path, limits: ArchiveLimits, *, only: str = "") -> Iterator[Member]:
    """Unpack the members of the archive at `path` into the new `folder`, in the order of the archive.

    Refused are names that lead out of the folder (absolute, drive letters, ``..``), links and devices, encrypted and
    damaged members, archives in the archive, second members of one name, and what exceeds `limits` or the free space of
    the disk. Only regular files and folders are made, all of them below `folder`. `only`: the name of a member, or of a
    folder of the archive, beside which nothing is unpacked.

    Raises UnreadableFileError when the archive's directory cannot be read, and errors of the machine, as a full disk.
    """
    with _opened(path, limits) as archive:
        folder.mkdir()
        budget = _Budget(limits, shutil.disk_usage(folder).free // 2, os.path.getsize(path))
        for position, info in enumerate(archive.infolist()):
            name = info.filename.replace("\\", "/")
            if name.endswith("/"):
                continue
            name = str(PurePosixPath(name))
            if only and name != only and not name.startswith(f"{only}/"):
                continue
            reason = "too many members in the archive" if position >= limits.members else _refusal(name, info)
            reason = reason or budget.add(name, info)
            target = folder.joinpath(*PurePosixPath(name).parts) if not reason else folder
            reason = reason or _write(archive, info, target)
            yield Member(name, reason=reason) if reason else Member(name, target)


class _Budget:
    """How much of an archive's limits is used."""

    def __init__(self, limits: ArchiveLimits, disk_bytes: int, archive_bytes: int) -> None:
        self.limits = limits
        self.total_bytes = min(limits.total_bytes, disk_bytes)
        self.names: set[str] = set()
        self.unpacked = 0
        # of the whole file: what the directory says of packed sizes may be a lie, or one piece counted many times
        self.most = max(limits.free_bytes, limits.ratio * archive_bytes)

    def add(self, name: str, info: zipfile.ZipInfo) -> str:
        """Count a member by the sizes of the directory, which unpacking cannot exceed; why it may not be unpacked."""
        if name in self.names:
            return "a second member of the archive with this name"
        self.names.add(name)
        unpacked = self.unpacked + info.file_size
        if info.file_size > self.limits.member_bytes or unpacked > self.total_bytes:
            return f"too large for an archive ({info.file_size} bytes unpacked)"
        if unpacked > self.most:
            return f"the archive unpacks to more than {self.limits.ratio:g} times its size"
        self.unpacked = unpacked
        return ""


def _opened(path: str | os.PathLike[str], limits: ArchiveLimits) -> zipfile.ZipFile:
    try:
        if _directory_bytes(path) > limits.directory_bytes:
            raise UnreadableFileError(path, "a ZIP archive with too many members", "unpack it and name the folder")
        return zipfile.ZipFile(path)
    # What the damaged directory led to: its text may quote names of members.
    except UnreadableFileError:
        raise
    except Exception as error:
        raise_machine_error(error)
        raise UnreadableFileError(path, f"a damaged ZIP archive ({type(error).__name__})", "copy it anew") from None


def _directory_bytes(path: str | os.PathLike[str]) -> int:
    """Length of the archive's directory as its end record states it, at least; 0 when there is no such record."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END_SEARCH))
        tail = file.read()
    position = tail.rfind(b"PK\x05\x06")
    if position < 0 or position + _END.size > len(tail):
        return 0
    length, offset = _END.unpack_from(tail, position)[5:7]
    # ZIP64: the true length is elsewhere, but the directory lies in front of its end record.
    if length == 0xFFFFFFFF or offset == 0xFFFFFFFF:
        locator = tail.rfind(b"PK\x06\x06", 0, position)
        length = struct.unpack_from("<Q", tail, locator + 40)[0] if 0 <= locator <= len(tail) - 48 else size
    return length


def _refusal(name: str, info: zipfile.ZipInfo) -> str:
    """Why a member is not unpacked whatever its size, "" if nothing speaks against it."""
    parts = name.split("/")
    if not name or name.startswith("/") or (len(parts[0]) > 1 and parts[0][1] == ":"):
        return "an absolute name in the archive"
    if ".." in parts:
        return "a name that leads out of the archive (..)"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "a symbolic link in the archive" if kind == stat.S_IFLNK else "not a regular file of the archive"
    return "encrypted in the archive" if info.flag_bits & _ENCRYPTED else ""


def _write(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> str:
    """Unpack one member; what went wrong, "" if nothing did. A refused member leaves nothing behind."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Fails where another member is: names that differ in case alone are one on some disks.
        file = target.open("xb")
    except (OSError, ValueError) as error:
        raise_machine_error(error)
        return f"cannot be unpacked ({type(error).__name__})"
    with file:
        reason = _copy(archive, info, file)
    if not reason and is_archive(target):
        reason = "an archive in the archive"
    if reason:
        target.unlink()
    return reason


def _copy(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: BinaryIO) -> str:
    try:
        with archive.open(info) as source:
            shutil.copyfileobj(source, file, _CHUNK)
    except (NotImplementedError, RuntimeError):
        return "packed by a method that cannot be unpacked"
    except OSError as error:
        raise_machine_error(error)
        return f"cannot be unpacked ({type(error).__name__})"
    # zipfile, zlib, bz2 and lzma raise classes of their own
    except Exception as error:
        raise_machine_error(error)
        return f"damaged in the archive ({type(error).__name__})"
    return ""


def _is_number(suffix: str) -> bool:
    """Whether what looks like a suffix is the end of a number or UID, as in ``IM.12``."""
    return suffix[1:].isdigit()
