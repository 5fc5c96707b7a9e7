"""The files that the directory of a medium (DICOMDIR) names, PS3.3 annex F and PS3.10 section 8."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.sequence import Sequence
from pydicom.uid import MediaStorageDirectoryStorage

from seqnorm_monai.images.dicom.errors import DicomReadError, UnreadableFileError
from seqnorm_monai.images.dicom.header import Header
from seqnorm_monai.images.dicom.open import read_header
from seqnorm_monai.images.dicom.silence import pydicom_silenced
from seqnorm_monai.images.machine_errors import raise_machine_error

_RECORDS = "DirectoryRecordSequence"
# Bytes at the start of a file in which its SOP class stands.
_START = 4096


@dataclass(frozen=True)
class Reference:
    """One file that the directory names: its name there, and where it is or why it is not used (the other is empty)."""

    name: str
    path: Path | None = None
    reason: str = ""


def is_directory_file(path: str | os.PathLike[str]) -> bool:
    """Whether the file is the directory of a medium: SOP class Media Storage Directory Storage."""
    try:
        with open(path, "rb") as file:
            # for nearly every file this is all that is read
            if MediaStorageDirectoryStorage.encode() not in file.read(_START):
                return False
        header = read_header(path, ())
    except (OSError, DicomReadError) as error:
        raise_machine_error(error)
        return False
    return MediaStorageDirectoryStorage in (header.media_storage_class, header.text("SOPClassUID"))


def read_references(path: str | os.PathLike[str]) -> list[Reference]:
    """Every file that the directory at `path` names, in its order, each once.

    ReferencedFileID (0004,1500) holds the parts of a path below the folder of the directory (PS3.3 section F.3.2.2). A
    part that is not on the disk as it is written is taken in the other case, as copies of a CD have it. Refused are
    parts that lead out of the folder, by themselves or through links, and files that are not there.

    Raises UnreadableFileError when the list of records is damaged or missing.
    """
    path = Path(path)
    folder = path.resolve().parent
    references: dict[str, Reference] = {}
    for item in _records(path):
        try:
            parts = _parts(item)
        except DicomReadError:
            raise _damaged(path) from None
        if parts:
            name = "/".join(parts)
            references.setdefault(name, _reference(folder, name, parts))
    return list(references.values())


def _records(path: Path) -> list[Header]:
    try:
        with pydicom_silenced():
            dataset = pydicom.dcmread(path, specific_tags=[_RECORDS])
            value = dataset.get(_RECORDS)
            items = list(value) if isinstance(value, Sequence) else None
    # pydicom raises whatever the damaged bytes led to, and its text may quote them.
    except Exception as error:
        raise_machine_error(error)
        items = None
    if items is None:
        raise _damaged(path)
    little_endian = bool(dataset.original_encoding[1])
    return [Header(path, item, little_endian) for item in items]


def _damaged(path: Path) -> UnreadableFileError:
    return UnreadableFileError(path, "a damaged directory of a medium", "name the folder that it lies in")


def _parts(item: Header) -> list[str]:
    # an item without this element is a patient, a study or a series
    parts = [part.strip(" \0") for part in item.text("ReferencedFileID").split("\\")]
    return [] if parts == [""] else parts


def _reference(folder: Path, name: str, parts: list[str]) -> Reference:
    if any(part in ("", ".", "..") or "/" in part or "\0" in part or part[1:2] == ":" for part in parts):
        return Reference(name, reason="leads out of the folder of the directory")
    found: Path | None = folder
    for part in parts:
        found = _entry(found, part)
        if found is None:
            return Reference(name, reason="named by the directory and not there")
    try:
        inside = found.resolve().is_relative_to(folder)
    except (OSError, RuntimeError) as error:
        raise_machine_error(error)
        inside = False
    return Reference(name, found) if inside else Reference(name, reason="leads out of the folder of the directory")


def _entry(folder: Path, part: str) -> Path | None:
    """The entry of a folder with this name, else the only one that differs from it in case alone, else None."""
    exact = folder / part
    try:
        if os.path.lexists(exact):
            return exact
        alike = [entry for entry in folder.iterdir() if entry.name.lower() == part.lower()]
    except (OSError, ValueError) as error:
        raise_machine_error(error)
        return None
    return alike[0] if len(alike) == 1 else None
