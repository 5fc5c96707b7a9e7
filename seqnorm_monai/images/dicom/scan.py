"""The headers of many files: image instances by series, and a record of every file that is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from seqnorm_monai.images.dicom.copies import without_copies
from seqnorm_monai.images.dicom.identifiers import is_replacement
from seqnorm_monai.images.dicom.instance import read_instance
from seqnorm_monai.images.dicom.plane import Excluded, Instance, ScanResult
from seqnorm_monai.images.dicom.processes import CHUNK, map_in_processes
from seqnorm_monai.images.records import FileRecord, FileStatus

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
    file that is in no series. `incomplete`: why a series may lack a slice, for those of which a file cannot be used.
    """

    series: dict[SeriesKey, list[Instance]] = field(default_factory=dict)
    records: dict[str, FileRecord] = field(default_factory=dict)
    incomplete: dict[SeriesKey, str] = field(default_factory=dict)


def scan_files(sources: Iterable[Source], num_workers: int = 0) -> Scan:
    """Read every header, in `num_workers` processes if above 0; nothing raises for a file.

    Of several files with one SOPInstanceUID copies are left out, see `copies.without_copies`. A damaged copy of an
    image that is there leaves its series complete. A file that ends its worker process is rejected.

    Raises ValueError when two sources have one name, and errors of the machine: no memory, file descriptors, processes.
    """
    places = [(source.name, source.path) for source in sources]
    doubles = [name for name, count in Counter(name for name, _ in places).items() if count > 1]
    if doubles:
        raise ValueError(f"argument sources: two files have the name {doubles[0]!r}")
    scan = Scan()
    by_uid: dict[str, list[Instance]] = {}
    damaged: list[Excluded] = []
    named: set[str] = set()
    for result in _results(places, num_workers):
        if isinstance(result, Instance):
            by_uid.setdefault(result.sop or f"file {result.name}", []).append(result)
            continue
        scan.records[result.name] = result.record()
        damaged.append(result)
    for found in by_uid.values():
        kept, excluded = (found, []) if len(found) == 1 else without_copies(found)
        scan.records |= {one.name: one.record() for one in excluded}
        for instance in kept:
            scan.series.setdefault(_key(instance), []).append(instance)
        # an identifier with one image names it: what else has it is a copy, and no loss
        if len(kept) == 1:
            named.add(kept[0].sop)
            continue
        for one in excluded:
            _mark_incomplete(scan, one)
    for one in damaged:
        if one.sop not in named and (one.sop not in by_uid or is_replacement(one.sop)):
            _mark_incomplete(scan, one)
    return scan


def _mark_incomplete(scan: Scan, lost: Excluded) -> None:
    """The series of a file that cannot be used may lack a slice, if the file is known to be of a series."""
    if lost.fault and lost.series:
        scan.incomplete.setdefault(_key(lost), f"{lost.name}: {lost.fault}")


def _results(places: Sequence[tuple[str, Path]], num_workers: int) -> Iterable[ScanResult]:
    if num_workers < 1 or len(places) < 2 * CHUNK:
        return map(_result, places)
    return map_in_processes(_result, places, num_workers, _ended)


def _result(place: tuple[str, Path]) -> ScanResult:
    return read_instance(*place)


def _ended(place: tuple[str, Path]) -> ScanResult:
    return Excluded(place[0], FileStatus.REJECTED, "reading it ended the process that read it")


def _key(result: ScanResult) -> SeriesKey:
    return result.study, result.series, "" if result.series else result.name
