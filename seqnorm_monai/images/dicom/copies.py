"""Files that claim to be one image, by their SOPInstanceUID: copies of each other, or contradictions."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from seqnorm_monai.images.dicom.errors import DicomReadError
from seqnorm_monai.images.dicom.identifiers import is_replacement
from seqnorm_monai.images.dicom.instance import reason_text
from seqnorm_monai.images.dicom.load_planes import load_planes
from seqnorm_monai.images.dicom.plane import Excluded, Instance, Plane
from seqnorm_monai.images.machine_errors import raise_machine_error
from seqnorm_monai.images.records import FileStatus

_CHUNK = 1 << 20
# fields of a plane in which copies may differ: where the file is, and how it holds the pixels
_NOT_CONTENT = frozenset(("name", "path", "encoding"))


def without_copies(found: Sequence[Instance]) -> tuple[list[Instance], list[Excluded]]:
    """The image of the files that share a SOPInstanceUID, [] if there is none, and all other files.

    The first file is kept and the others are set aside as copies, if they hold the same image: the same bytes, or the
    same place, attributes and pixel values, as a copy that an archive wrote anew, with another transfer syntax or other
    padding. A file that cannot be decoded is rejected: a good one replaces it. If the others still differ, all of them
    are rejected, as nobody can tell which is the right one. What is no UID promises nothing: under a word that some
    system writes into every file (ANONYMIZED), each image of its own is kept.

    Every file is read once and, where their bytes differ, decoded once, however many they are.
    """
    excluded: list[Excluded] = []
    distinct = _first_of_each(found, _digests(found), excluded)
    if len(distinct) == 1:
        return distinct, excluded
    contents, errors = _decoded(distinct)
    good = [instance for instance in distinct if instance.name in contents]
    several = len(set(contents.values())) > 1
    constant = several and is_replacement(found[0].sop)
    excluded += [
        _excluded(
            instance,
            FileStatus.REJECTED,
            reason_text(errors[instance.name]),
            "" if good and not constant else "its pixels cannot be decoded",
        )
        for instance in distinct
        if instance.name in errors
    ]
    if constant or not several:
        return _first_of_each(good, list(contents.values()), excluded), excluded
    for instance in good:
        twin = good[1] if instance is good[0] else good[0]
        reason = f"the same SOPInstanceUID as {twin.name}, with other content (keep the right one)"
        excluded.append(_excluded(instance, FileStatus.REJECTED, reason, reason))
    return [], excluded


def _first_of_each(found: Sequence[Instance], keys: Sequence[Hashable], excluded: list[Excluded]) -> list[Instance]:
    """The first file of each key; the others go to `excluded` as its copies."""
    first: dict[Hashable, Instance] = {}
    for instance, key in zip(found, keys, strict=True):
        twin = first.setdefault(key, instance)
        if twin is not instance:
            excluded.append(_excluded(instance, FileStatus.SET_ASIDE, f"a copy of {twin.name}"))
    return list(first.values())


def _excluded(instance: Instance, status: FileStatus, reason: str, fault: str = "") -> Excluded:
    return Excluded(instance.name, status, reason, instance.study, instance.series, instance.sop, fault)


def _digests(found: Sequence[Instance]) -> list[Hashable]:
    """The same for files of the same bytes. A file that cannot be read is like no other: to decode it will say why."""
    sizes = [_checked(os.path.getsize, instance) for instance in found]
    alike = Counter(sizes)
    return [
        (size, (_checked(_sha256, instance) if alike[size] > 1 else None) or instance.name)
        for size, instance in zip(sizes, found, strict=True)
    ]


def _checked(read: Callable[[Path], Hashable], instance: Instance) -> Hashable | None:
    try:
        return read(instance.path)
    except OSError as error:
        raise_machine_error(error)
        return None


def _sha256(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.digest()


def _decoded(found: Sequence[Instance]) -> tuple[dict[str, Hashable], dict[str, DicomReadError]]:
    """By name: the content of each file, or why it cannot be decoded. One image is in memory at a time."""
    contents: dict[str, Hashable] = {}
    errors: dict[str, DicomReadError] = {}
    for instance in found:
        try:
            contents[instance.name] = _content(instance)
        except DicomReadError as error:
            errors[instance.name] = error
    return contents, errors


def _content(instance: Instance) -> Hashable:
    """The same for the same image: identifiers, everything that is known of its planes, and the pixel values."""
    pixels = load_planes(instance.planes)
    # there is one zero, and one number that is none
    pixels += 0.0
    pixels[np.isnan(pixels)] = np.nan
    planes = tuple(_attributes(plane) for plane in instance.planes)
    return instance.study, instance.series, planes, pixels.shape, hashlib.sha256(pixels).digest()


def _attributes(plane: Plane) -> Hashable:
    values = [getattr(plane, one.name) for one in fields(plane) if one.name not in _NOT_CONTENT]
    return tuple(tuple(sorted(value.items())) if isinstance(value, Mapping) else value for value in values)
