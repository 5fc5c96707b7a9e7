"""What a path in a datalist or in a table may name: a file, a folder of one image, a member or folder of an archive."""

import os
import zipfile
from collections.abc import Hashable
from pathlib import Path, PurePosixPath

from seqnorm_monai.images.archives import is_archive
from seqnorm_monai.images.machine_errors import raise_machine_error
from seqnorm_monai.images.sources import file_on_disk


class ImagePaths:
    """The images that one list names: each exists, is named once, and is no part of another.

    `where` is the place in the list, for messages: a line, or the position of an item.
    """

    def __init__(self) -> None:
        self._parts: dict[Hashable, dict[str, str]] = {}
        self._named: dict[str, str] = {}
        self._members: dict[str, frozenset[str]] = {}

    def problem(self, where: str, path: str, part: str = "") -> str | None:
        """What is wrong with the image at the absolute `path`, beginning with the path; None if nothing is.

        `part`: what of the image is meant, as the side of a patient; each part of an image may be named once.
        """
        try:
            identity = self._identity(path)
        except (OSError, ValueError) as error:
            raise_machine_error(error)
            return f"{path} does not exist"
        if identity is None:
            return f"{path} is neither a file nor a folder"
        others = self._parts.setdefault(identity, {})
        # the whole image and a part of it are no two images
        earlier = next((other for name, other in others.items() if part == name or not (part and name)), where)
        others.setdefault(part, where)
        if earlier != where:
            return f"{path} stands already in {earlier}; name each image once"
        self._named[path] = where
        return None

    def overlaps(self) -> list[str]:
        """A problem for each image that lies in a folder or archive which is named as an image too."""
        return [
            f"{where}: image {path} is part of {parent}, the image of {self._named[str(parent)]}; name one of them"
            for path, where in self._named.items()
            for parent in Path(path).parents
            if str(parent) in self._named
        ]

    def _identity(self, path: str) -> Hashable:
        """The same value for the same image, so that a link does not hide a copy; None for a pipe and the like.

        Raises OSError or ValueError when there is nothing at `path`.
        """
        archive = None if os.path.exists(path) else archive_above(path)
        if archive is not None:
            member = Path(path).relative_to(archive).as_posix()
            if member not in self._names(archive):
                raise FileNotFoundError(path)
            return self._identity(archive), member
        status = os.stat(path)
        if not (os.path.isfile(path) or os.path.isdir(path)):
            return None
        # some network and FUSE file systems have no inode numbers
        return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)

    def _names(self, archive: str) -> frozenset[str]:
        if archive not in self._members:
            self._members[archive] = frozenset(_member_names(archive))
        return self._members[archive]


def archive_above(path: str) -> str | None:
    """The ZIP archive that a path leads into, as `studies.zip` in `studies.zip/inner/1.dcm`; None if there is none."""
    found = file_on_disk(path)
    return found if found != path and is_archive(found) else None


def _member_names(archive: str) -> set[str]:
    """The members of an archive and the folders that they are in."""
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [PurePosixPath(name.replace("\\", "/")) for name in opened.namelist()]
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise_machine_error(error)
        # a damaged archive has no members; whoever opens it is told why
        return set()
    return {str(path) for name in names for path in (name, *name.parents)}
