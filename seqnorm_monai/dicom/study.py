"""Any set of files to the volumes in it, and one record for every file."""

from __future__ import annotations

import filecmp
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from seqnorm_monai.dicom.errors import DicomReadError
from seqnorm_monai.dicom.geometry import GeometryError, stack_geometry
from seqnorm_monai.dicom.grouping import Phase, derived_kind, separate_phases, split_stacks
from seqnorm_monai.dicom.instance import BadInstance, Instance, Plane, SetAside, read_instance
from seqnorm_monai.dicom.records import FileRecord
from seqnorm_monai.dicom.volume import Volume


class Source(Protocol):
    """A file: the name that is shown, and where it can be opened."""

    name: str
    path: Path


@dataclass(frozen=True)
class Series:
    """The volumes of one series, phase after phase."""

    study_instance_uid: str
    series_instance_uid: str
    modality: str
    volumes: tuple[Volume, ...]


@dataclass(frozen=True)
class StudyReport:
    """All series that can be read, and one record for every file, in the order in which they came."""

    series: tuple[Series, ...]
    files: tuple[FileRecord, ...]


@dataclass
class _Scan:
    """What the headers gave: instances by series, records of files that need nothing more, series that are spoilt."""

    series: dict[tuple[str, str], list[Instance]] = field(default_factory=lambda: defaultdict(list))
    records: dict[str, FileRecord] = field(default_factory=dict)
    spoilt: dict[tuple[str, str], str] = field(default_factory=dict)
    by_sop: dict[str, Instance] = field(default_factory=dict)


def read_studies(sources: Iterable[Source], refused: Iterable[FileRecord] = ()) -> StudyReport:
    """Group files by study, series, stack and phase, from their headers only; one bad file stops nothing.

    `refused` are records of files that could not be offered at all. Every name occurs once in the result. A file of
    a series that is damaged refuses the volumes of that series, because it may be one of their slices.
    """
    sources, refused = list(sources), list(refused)
    scan = _Scan()
    for source in sources:
        _scan_one(scan, source)
    series = [found for key, instances in scan.series.items() if (found := _read_series(scan, key, instances)).volumes]
    return StudyReport(tuple(series), tuple([scan.records[source.name] for source in sources] + refused))


def _scan_one(scan: _Scan, source: Source) -> None:
    name = source.name
    try:
        instance = read_instance(name, source.path)
    except SetAside as aside:
        scan.records[name] = FileRecord(name, "set_aside", aside.reason, aside.study, aside.series)
    except BadInstance as bad:
        scan.records[name] = FileRecord(name, "rejected", _reason(bad.error), bad.study, bad.series)
        scan.spoilt.setdefault((bad.study, bad.series), f"{name}: {bad.error.reason}")
    except DicomReadError as error:
        scan.records[name] = FileRecord(name, "rejected", _reason(error))
    # a damaged header may raise anything; its text is not passed on
    except Exception as error:
        scan.records[name] = FileRecord(name, "rejected", f"the header cannot be used ({type(error).__name__})")
    else:
        _add(scan, instance)


def _reason(error: DicomReadError) -> str:
    return error.reason + (f" ({error.advice})" if error.advice else "")


def _add(scan: _Scan, instance: Instance) -> None:
    """Keep an instance unless it was seen: a copy is set aside, two files that differ spoil their series."""
    key, name = (instance.study, instance.series), instance.name
    known = scan.by_sop.get(instance.sop) if instance.sop else None
    if known is None:
        if instance.sop:
            scan.by_sop[instance.sop] = instance
        scan.series[key].append(instance)
    elif filecmp.cmp(known.path, instance.path, shallow=False):
        scan.records[name] = FileRecord(name, "set_aside", f"a copy of {known.name}", *key)
    else:
        reason = f"the same SOPInstanceUID as {known.name}, with other content"
        scan.records[name] = FileRecord(name, "rejected", reason, *key)
        for spoilt in (key, (known.study, known.series)):
            scan.spoilt.setdefault(spoilt, f"{name}: {reason}")


def _read_series(scan: _Scan, key: tuple[str, str], instances: list[Instance]) -> Series:
    planes = [plane for instance in instances for plane in instance.planes]
    volumes: list[Volume] = []
    try:
        stacks = split_stacks(planes)
    except GeometryError as error:
        stacks = []
        _refuse(scan, planes, key, str(error))
    for stack in stacks:
        try:
            volumes += _stack_volumes(scan, instances, key, stack, len(volumes))
        except GeometryError as error:
            _refuse(scan, stack, key, str(error))
    for volume in volumes:
        for name in volume.files:
            scan.records[name] = FileRecord(name, "used", "", *key)
    return Series(*key, instances[0].modality, tuple(volumes))


def _refuse(scan: _Scan, planes: Iterable[Plane], key: tuple[str, str], reason: str) -> None:
    for plane in planes:
        scan.records[plane.name] = FileRecord(plane.name, "rejected", f"its series is refused: {reason}", *key)


def _stack_volumes(
    scan: _Scan, instances: list[Instance], key: tuple[str, str], stack: list[Plane], first: int
) -> list[Volume]:
    """The volumes of one stack, all or none. Raises GeometryError."""
    if stack[0].position is None or stack[0].orientation is None:
        return [_volume(instances, key, Phase(tuple(stack)), first)]
    if len(stack) > 1 and key in scan.spoilt:
        raise GeometryError(f"one of its files cannot be used, {scan.spoilt[key]}")
    if len(stack) > 1 and stack[0].spacing is None:
        raise GeometryError("slices without PixelSpacing")
    return [_volume(instances, key, phase, first + index) for index, phase in enumerate(separate_phases(stack))]


def _volume(instances: list[Instance], key: tuple[str, str], phase: Phase, index: int) -> Volume:
    planes, plane = phase.planes, phase.planes[0]
    affine, spacing, sheared = None, None, False
    if plane.position is not None and plane.orientation is not None and plane.spacing is not None:
        positions = [plane.position for plane in planes]
        geometry = stack_geometry(positions, plane.orientation, plane.spacing, plane.thickness)
        planes = tuple(planes[place] for place in geometry.order)
        affine, spacing, sheared = geometry.affine, geometry.spacing, geometry.sheared
    elif plane.spacing is not None:
        spacing = (plane.spacing[1], plane.spacing[0], 1.0)
    source = next(instance for instance in instances if instance.name == plane.name)
    kind = "image" if len(planes) == 1 else "frames" if affine is None else "volume"
    return Volume(
        study_instance_uid=key[0],
        series_instance_uid=key[1],
        sop_instance_uids=tuple(dict.fromkeys(plane.sop_instance_uid for plane in planes)),
        modality=source.modality,
        kind=kind,
        phase_index=index,
        phase_label=phase.label,
        phase_name=phase.names,
        phase_value=phase.values,
        derived=derived_kind(plane.image_type),
        shape=(len(planes), plane.rows, plane.columns, *([plane.channels] if plane.channels > 1 else [])),
        affine=affine,
        spacing=spacing,
        sheared=sheared,
        files=tuple(dict.fromkeys(plane.name for plane in planes)),
        attributes=source.attributes,
        planes=planes,
        problem=phase.problem,
    )
