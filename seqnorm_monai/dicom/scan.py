"""The headers of many files: image instances by series, and a record of every file that is none."""

from __future__ import annotations

import filecmp
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from seqnorm_monai.dicom.errors import DicomReadError
from seqnorm_monai.dicom.instance import BadInstance, Instance, SetAside, read_instance
from seqnorm_monai.dicom.records import FileRecord
from seqnorm_monai.dicom.volume import load_planes

# StudyInstanceUID, SeriesInstanceUID, and the file's own name where it has no SeriesInstanceUID
SeriesKey = tuple[str, str, str]


class Source(Protocol):
    """A file: the name that is shown, and where it can be opened."""

    @property
    def name(self) -> str: ...

    @property
    def path(self) -> Path: ...


@dataclass
class Scan:
    """What the headers gave.

    `series`: instances by series; one without SeriesInstanceUID is a series of its own. `records`: by name, of every
    file that is in no series. `bad`: damaged files of known series. `spoilt`: why a series may lack a slice, for those
    of which a file cannot be used.
    """

    series: dict[SeriesKey, list[Instance]] = field(default_factory=dict)
    records: dict[str, FileRecord] = field(default_factory=dict)
    spoilt: dict[SeriesKey, str] = field(default_factory=dict)
    bad: list[tuple[str, BadInstance]] = field(default_factory=list)


def scan_files(sources: Iterable[Source]) -> Scan:
    """Read every header; nothing raises for a file.

    Of several files with one SOPInstanceUID the first is kept and the others are set aside as copies, if they hold the
    same image; if they do not, all of them are rejected, as nobody can tell which is the right one.

    Raises ValueError when two sources have one name.
    """
    scan = Scan()
    by_uid: dict[str, list[Instance]] = {}
    names: set[str] = set()
    for source in sources:
        if source.name in names:
            raise ValueError(f"argument sources: two files have the name {source.name!r}")
        names.add(source.name)
        instance = _read(scan, source)
        if instance is not None:
            by_uid.setdefault(instance.sop or f"file {source.name}", []).append(instance)
    for found in by_uid.values():
        _keep(scan, found)
    for name, bad in scan.bad:
        # a damaged copy of an image that is there takes nothing from its series
        if bad.sop not in by_uid:
            scan.spoilt.setdefault((bad.study, bad.series, ""), f"{name}: {bad.error.reason}")
    return scan


def _read(scan: Scan, source: Source) -> Instance | None:
    name = source.name
    try:
        return read_instance(name, source.path)
    except SetAside as aside:
        scan.records[name] = FileRecord(name, "set_aside", aside.reason, aside.study, aside.series)
    except BadInstance as bad:
        scan.records[name] = FileRecord(name, "rejected", text_of(bad.error), bad.study, bad.series)
        if bad.series:
            scan.bad.append((name, bad))
    except DicomReadError as error:
        scan.records[name] = FileRecord(name, "rejected", text_of(error))
    # a damaged header may raise anything; its text is not passed on
    except Exception as error:
        scan.records[name] = FileRecord(name, "rejected", f"the header cannot be used ({type(error).__name__})")
    return None


def text_of(error: DicomReadError) -> str:
    """Reason and advice, without the path that a record has anyway."""
    return error.reason + (f" ({error.advice})" if error.advice else "")


def _key(instance: Instance) -> SeriesKey:
    return instance.study, instance.series, "" if instance.series else instance.name


def _keep(scan: Scan, found: list[Instance]) -> None:
    """Put the one instance of a SOPInstanceUID into its series, or none."""
    distinct = _without_copies(scan, found)
    if len(distinct) > 1:
        distinct = _without_damaged(scan, distinct)
    if not distinct:
        scan.spoilt.setdefault(_key(found[0]), f"{found[0].name}: its pixels cannot be decoded")
        return
    first, others = distinct[0], distinct[1:]
    if all(_same_image(first, other) for other in others):
        scan.series.setdefault(_key(first), []).append(first)
        for other in others:
            _record(scan, other, "set_aside", f"a copy of {first.name}")
        return
    for instance in distinct:
        twin = next(other.name for other in distinct if other is not instance)
        reason = f"the same SOPInstanceUID as {twin}, with other content (keep the right one)"
        _record(scan, instance, "rejected", reason)
        scan.spoilt.setdefault(_key(instance), f"{instance.name}: {reason}")


def _without_copies(scan: Scan, found: list[Instance]) -> list[Instance]:
    """Files that differ in a byte; the others are set aside."""
    distinct: list[Instance] = []
    for instance in found:
        twin = next((other for other in distinct if _same_bytes(other, instance)), None)
        if twin is None:
            distinct.append(instance)
        else:
            _record(scan, instance, "set_aside", f"a copy of {twin.name}")
    return distinct


def _same_bytes(one: Instance, other: Instance) -> bool:
    try:
        return filecmp.cmp(one.path, other.path, shallow=False)
    except OSError:
        return False


def _without_damaged(scan: Scan, found: list[Instance]) -> list[Instance]:
    """Files that can be decoded; the others are rejected: a good image of the same identifier replaces them."""
    good = []
    for instance in found:
        try:
            load_planes(instance.planes)
        except DicomReadError as error:
            _record(scan, instance, "rejected", text_of(error))
        else:
            good.append(instance)
    return good


def _record(scan: Scan, instance: Instance, status: str, reason: str) -> None:
    scan.records[instance.name] = FileRecord(instance.name, status, reason, instance.study, instance.series)


def _same_image(one: Instance, other: Instance) -> bool:
    """Whether two files have the same place, attributes and pixel values.

    So has a copy that an archive wrote anew, with another transfer syntax or other padding.
    """
    if (one.study, one.series) != (other.study, other.series) or _content(one) != _content(other):
        return False
    return np.array_equal(load_planes(one.planes), load_planes(other.planes), equal_nan=True)


def _content(instance: Instance) -> list[object]:
    return [replace(plane, name="", path=Path()) for plane in instance.planes]
