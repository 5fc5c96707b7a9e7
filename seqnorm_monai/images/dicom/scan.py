"""The headers of many files: image instances by series, and a record of every file that is none."""

from __future__ import annotations

import filecmp
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from seqnorm_monai.images.dicom.errors import DicomReadError
from seqnorm_monai.images.dicom.instance import BadInstance, Instance, SetAside, read_instance
from seqnorm_monai.images.dicom.load_planes import load_planes
from seqnorm_monai.images.records import FileRecord

# StudyInstanceUID, SeriesInstanceUID, and the file's own name where it has no SeriesInstanceUID
SeriesKey = tuple[str, str, str]
# files that a process takes at a time
_CHUNK = 32


class Source(Protocol):
    """A file: the name that is shown, and where it can be opened."""

    @property
    def name(self) -> str: ...

    @property
    def path(self) -> Path: ...


@dataclass(frozen=True)
class Damaged:
    """A file that cannot be used, although it says which image of which series it is."""

    record: FileRecord
    sop: str
    error: str


@dataclass
class Scan:
    """What the headers gave.

    `series`: instances by series; one without SeriesInstanceUID is a series of its own. `records`: by name, of every
    file that is in no series. `spoilt`: why a series may lack a slice, for those of which a file cannot be used.
    """

    series: dict[SeriesKey, list[Instance]] = field(default_factory=dict)
    records: dict[str, FileRecord] = field(default_factory=dict)
    spoilt: dict[SeriesKey, str] = field(default_factory=dict)


def scan_files(sources: Iterable[Source], num_workers: int = 0) -> Scan:
    """Read every header, in `num_workers` processes if above 0; nothing raises for a file.

    Of several files with one SOPInstanceUID the first is kept and the others are set aside as copies, if they hold the
    same image; if they do not, all of them are rejected, as nobody can tell which is the right one. A damaged copy of
    an image that is there spoils nothing.

    Raises ValueError when two sources have one name.
    """
    places = [(source.name, source.path) for source in sources]
    doubles = [name for name, count in Counter(name for name, _ in places).items() if count > 1]
    if doubles:
        raise ValueError(f"argument sources: two files have the name {doubles[0]!r}")
    scan = Scan()
    by_uid: dict[str, list[Instance]] = {}
    damaged: list[Damaged] = []
    for (name, _), outcome in zip(places, _outcomes(places, num_workers), strict=True):
        if isinstance(outcome, Instance):
            by_uid.setdefault(outcome.sop or f"file {name}", []).append(outcome)
            continue
        scan.records[name] = outcome.record if isinstance(outcome, Damaged) else outcome
        if isinstance(outcome, Damaged):
            damaged.append(outcome)
    for found in by_uid.values():
        _keep(scan, found)
    for one in damaged:
        if one.sop not in by_uid and one.record.series:
            scan.spoilt.setdefault((one.record.study, one.record.series, ""), f"{one.record.path}: {one.error}")
    return scan


def _outcomes(places: Sequence[tuple[str, Path]], num_workers: int) -> Iterable[Instance | FileRecord | Damaged]:
    if num_workers < 1 or len(places) < 2 * _CHUNK:
        return map(_outcome, places)
    with ProcessPoolExecutor(num_workers) as pool:
        return list(pool.map(_outcome, places, chunksize=_CHUNK))


def _outcome(place: tuple[str, Path]) -> Instance | FileRecord | Damaged:
    """What one file is, as a value: it may come from another process."""
    name, path = place
    try:
        return read_instance(name, path)
    except SetAside as aside:
        return FileRecord(name, "set_aside", aside.reason, aside.study, aside.series)
    except BadInstance as bad:
        record = FileRecord(name, "rejected", text_of(bad.error), bad.study, bad.series)
        return Damaged(record, bad.sop, bad.error.reason)
    except DicomReadError as error:
        return FileRecord(name, "rejected", text_of(error))
    # a damaged header may raise anything; its text is not passed on
    except Exception as error:
        return FileRecord(name, "rejected", f"the header cannot be used ({type(error).__name__})")


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
    return [replace(plane, name="", path=Path(), encoding=None) for plane in instance.planes]
