"""Where a study lies: a file, a folder tree, a DICOMDIR, a ZIP archive; all end as one list of files to open."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from seqnorm_monai.images.archives import DEFAULT_LIMITS, ArchiveLimits, is_archive, unpack
from seqnorm_monai.images.dicom.dicomdir import is_directory_file, read_references
from seqnorm_monai.images.dicom.errors import UnreadableFileError
from seqnorm_monai.images.folders import files_below, unreadable_reason
from seqnorm_monai.images.machine_errors import raise_machine_error
from seqnorm_monai.images.records import FileRecord, FileStatus
from seqnorm_monai.images.unpacked import UnpackedFolder
from seqnorm_monai.paths import require_path

_DIRECTORY = "the directory of a medium"
_ARCHIVE = "an archive; its members have rows of their own"


@dataclass(frozen=True)
class SourceFile:
    """One file to read. `name` is shown (``archive.zip/inner/member``), `path` is where it can be opened."""

    name: str
    path: Path


@dataclass
class Sources:
    """The files of a study that can be opened, sorted by name, and the rows of all others.

    Names are relative to `folder`: the one that was opened, or that of the file. Every file is in `files` or in
    `refused`, once; archives and directories of media have a row (`set_aside`) beside those of their members. What
    archives were unpacked to is removed on leaving the context, or once nobody holds `unpacked` any more: read the
    pixels before.
    """

    folder: str = ""
    files: list[SourceFile] = field(default_factory=list)
    refused: list[FileRecord] = field(default_factory=list)
    limits: ArchiveLimits = DEFAULT_LIMITS
    unpacked: UnpackedFolder | None = field(default=None, repr=False)
    _num_archives: int = 0

    def __enter__(self) -> Sources:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove what archives were unpacked to."""
        if self.unpacked is not None:
            self.unpacked.close()
            self.unpacked = None

    def record(self, name: str, status: FileStatus, reason: str) -> None:
        """Account for a file that is not offered for reading."""
        self.refused.append(FileRecord(name, status, reason))

    def add_folder(self, folder: str, exclude: Sequence[str] = ()) -> None:
        """Every file below a folder, links and loops as `seqnorm_monai.images.folders.files_below` has them."""

        def excluded(path: str) -> bool:
            names = (os.path.basename(path), os.path.relpath(path, folder).replace(os.sep, "/"))
            return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in exclude)

        found = files_below(folder, excluded)
        for path in sorted(found):
            name = os.path.relpath(path, folder).replace(os.sep, "/")
            reason = found[path]
            if reason is None:
                self.add_file(name, Path(path))
            else:
                self.record(name, FileStatus.REJECTED, reason)

    def add_file(self, name: str, path: Path) -> None:
        """One file met on the way: archives are opened, directories of media set aside as the walk finds the files."""
        if is_archive(path):
            try:
                self.add_archive(name, path)
            except UnreadableFileError as error:
                self.record(name, FileStatus.REJECTED, error.reason)
        elif Path(name).name.upper() == "DICOMDIR" and is_directory_file(path):
            self.record(name, FileStatus.SET_ASIDE, _DIRECTORY)
        else:
            self.files.append(SourceFile(name, path))

    def add_archive(self, name: str, path: Path, only: str = "") -> None:
        """The members of an archive, or `only` the one of this name, or those of this folder in it."""
        if self.unpacked is None:
            self.unpacked = UnpackedFolder()
        self._num_archives += 1
        folder = self.unpacked.path / str(self._num_archives)
        members = sorted(unpack(path, folder, self.limits, only=only), key=lambda member: member.name)
        if not only:
            self.record(name, FileStatus.SET_ASIDE, _ARCHIVE)
        for member in members:
            shown = f"{name}/{member.name}"
            if member.path is None:
                self.record(shown, FileStatus.REJECTED, member.reason)
            else:
                self.add_file(shown, member.path)

    def add_directory(self, path: Path) -> None:
        """The files that a DICOMDIR names, and no others."""
        references = read_references(path)
        self.record(path.name, FileStatus.SET_ASIDE, _DIRECTORY)
        for reference in references:
            reason = reference.reason if reference.path is None else unreadable_reason(os.fspath(reference.path))
            if reason:
                self.record(reference.name, FileStatus.REJECTED, reason)
            else:
                self.files.append(SourceFile(reference.name, reference.path))


def open_sources(
    path: str | os.PathLike[str], *, exclude: Sequence[str] = (), limits: ArchiveLimits = DEFAULT_LIMITS
) -> Sources:
    """The files of a study: use it as a context, ``with open_sources(path) as sources``.

    `path`: a file, a folder (walked to any depth, archives in it included), the directory of a medium (DICOMDIR: what
    it names is read, nothing else), a ZIP archive, or a member or folder of one (``studies.zip/inner/1.dcm``). An
    archive inside an archive is refused by name. `exclude` holds shell patterns; what they match in a folder, by name
    or by path relative to it, is left out, a folder with all it holds. `limits` bound what an archive may unpack to.

    Raises TypeError for what is no path and for a single pattern that is not in a list, UnreadableFileError when
    `path` itself cannot be read. Nothing below it raises, but for errors of the machine.
    """
    if isinstance(exclude, str):
        raise TypeError(f"argument exclude must be a list of patterns; got the string {exclude!r}")
    path = require_path(path, "source")
    sources = Sources(limits=limits)
    try:
        _fill(sources, os.path.abspath(path), path, exclude)
    except BaseException:
        sources.close()
        raise
    return sources


def _fill(sources: Sources, top: str, given: str | os.PathLike[str], exclude: Sequence[str]) -> None:
    if os.path.isdir(top):
        try:
            os.scandir(top).close()
        except OSError as error:
            raise_machine_error(error)
            raise UnreadableFileError(given, f"folder cannot be listed ({type(error).__name__})") from None
        sources.folder = top
        sources.add_folder(top, exclude)
        return
    path = Path(file_on_disk(top))
    sources.folder = os.path.dirname(path)
    if os.fspath(path) != top:
        _fill_with_member(sources, path, Path(top).relative_to(path).as_posix(), given)
        return
    if not os.path.lexists(top):
        raise UnreadableFileError(given, "no such file or folder")
    reason = unreadable_reason(top)
    if reason is not None:
        raise UnreadableFileError(given, reason)
    if is_archive(path):
        sources.add_archive(path.name, path)
    elif is_directory_file(path):
        sources.add_directory(path)
    else:
        sources.files.append(SourceFile(path.name, path))


def file_on_disk(path: str) -> str:
    """The file that holds what `path` names: itself, or the archive whose member it is."""
    above = path
    while not os.path.lexists(above) and os.path.dirname(above) != above:
        above = os.path.dirname(above)
    return above if os.path.isfile(above) else path


def _fill_with_member(sources: Sources, archive: Path, member: str, given: str | os.PathLike[str]) -> None:
    if not is_archive(archive):
        raise UnreadableFileError(given, "no such file or folder")
    sources.add_archive(archive.name, archive, member)
    if not (sources.files or sources.refused):
        raise UnreadableFileError(given, "no such member in the archive")
