"""Formats whose files are images by themselves, NIfTI, MetaImage, NRRD, PNG, JPEG and TIFF, and files that are none."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seqnorm_monai.images.documents import document_kind, other_format
from seqnorm_monai.images.entries import ImageEntry, Inventory, Reader
from seqnorm_monai.images.errors import ImageReadError
from seqnorm_monai.images.itk_volume import itk_format, read_itk_array, read_itk_volume, voxel_file_of
from seqnorm_monai.images.nifti import has_nifti_name, is_nifti, read_nifti, read_volumes, voxel_file
from seqnorm_monai.images.raster import has_raster_name, raster_format, read_raster, read_raster_image
from seqnorm_monai.images.records import FileRecord, FileStatus
from seqnorm_monai.images.rows import SeriesRow, itk_row, nifti_row, raster_row
from seqnorm_monai.images.sources import SourceFile

_READ = "read are DICOM, NIfTI, MetaImage, NRRD, PNG, JPEG and TIFF"


@dataclass(frozen=True)
class _Format:
    """How the files of one format are read.

    `volumes`: a path to what can be decoded later; `row`: (volume, study, series, names) to a row; `partner`: a path to
    the file of its voxels, if that is another one.
    """

    volumes: Callable[[Path], Sequence[Any]]
    reader: Reader
    row: Callable[[Any, int, int, tuple[str, ...]], SeriesRow]
    partner: Callable[[Path], str | None]


_FORMATS = {
    "nifti": _Format(read_nifti, read_volumes, nifti_row, voxel_file),
    "itk": _Format(lambda path: [read_itk_volume(path)], read_itk_array, itk_row, voxel_file_of),
    "raster": _Format(
        lambda path: [read_raster(path)],
        read_raster_image,
        lambda image, study, series, names: raster_row(image, study, series, names[0]),
        lambda _: None,
    ),
}


@dataclass
class LoneFiles:
    """The files of each format, and those with the voxels of others."""

    files: dict[str, list[SourceFile]]
    voxels: dict[str, list[SourceFile]] = field(default_factory=dict)

    @classmethod
    def by_name(cls, files: Sequence[SourceFile]) -> LoneFiles:
        """Those whose name and content are of such a format."""
        found = cls(
            {
                "nifti": [file for file in files if has_nifti_name(file.path) and is_nifti(file.path)],
                "itk": [file for file in files if itk_format(file.path)],
                "raster": [file for file in files if has_raster_name(file.path) and raster_format(file.path)],
            }
        )
        found.voxels = {name: _partners(own, _FORMATS[name].partner, files) for name, own in found.files.items()}
        return found

    @property
    def all(self) -> set[SourceFile]:
        """Every file of a format, and of voxels."""
        return {file for kinds in (self.files, self.voxels) for own in kinds.values() for file in own}

    def add_renamed(self, refused: Sequence[SourceFile]) -> dict[str, FileRecord]:
        """Add what has such content under another name; a better record of the others, where there is one."""
        self.files["nifti"] += [file for file in refused if is_nifti(file.path)]
        self.files["raster"] += [file for file in refused if raster_format(file.path)]
        return {file.name: record for file in refused if (record := _explained(file))}

    def add_to(self, inventory: Inventory) -> None:
        """Each format as one more study, each file a series of its own, and the records of the files."""
        for name, files in self.files.items():
            study = 1 + max((row.study for row in inventory.rows), default=0)
            waiting = {os.path.realpath(file.path): file.name for file in self.voxels.get(name, ())}
            series = 0
            for file in sorted(files, key=lambda file: file.name):
                partner = _FORMATS[name].partner(file.path)
                # a record is made once, also where two headers name one file of voxels
                own = None if partner is None else waiting.pop(os.path.realpath(partner), None)
                names = (file.name,) if own is None else (file.name, own)
                series += _add(inventory, _FORMATS[name], file, names, (study, series + 1))


def _add(inventory: Inventory, kind: _Format, file: SourceFile, names: tuple[str, ...], place: tuple[int, int]) -> bool:
    """The volumes of one file, and its record; whether it could be read."""
    try:
        volumes = kind.volumes(file.path)
    except ImageReadError as error:
        reason = error.reason + (f" ({error.advice})" if error.advice else "")
        inventory.files += [FileRecord(name, FileStatus.REJECTED, reason) for name in names]
        return False
    inventory.files += [FileRecord(name, FileStatus.USED) for name in names]
    for volume in volumes:
        paths = getattr(volume, "files", (file.path,))
        bits = getattr(volume, "bits", 0)
        row = kind.row(volume, *place, names)
        inventory.entries.append(ImageEntry(row, kind.reader, volume, names, paths, bits=bits))
    return True


def _partners(
    headers: Sequence[SourceFile], partner: Callable[[Path], str | None], files: Sequence[SourceFile]
) -> list[SourceFile]:
    """The files that hold the voxels of these headers."""
    partners = {os.path.realpath(path) for path in (partner(file.path) for file in headers) if path is not None}
    if not partners:
        return []
    known = set(headers)
    return [file for file in files if file not in known and os.path.realpath(file.path) in partners]


def _explained(file: SourceFile) -> FileRecord | None:
    """The record of a file that is no image by its name and content, better than that it is no DICOM file."""
    if document := document_kind(file.path):
        return FileRecord(file.name, FileStatus.SET_ASIDE, document, is_document=True)
    if other := other_format(file.path):
        return FileRecord(file.name, FileStatus.REJECTED, f"{other}; {_READ}")
    return None
