"""Any set of files to the volumes in it, and one record for every file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from seqnorm_monai.images.dicom.errors import SeriesError
from seqnorm_monai.images.dicom.geometry import GeometryError, stack_geometry
from seqnorm_monai.images.dicom.instance import Instance, Plane
from seqnorm_monai.images.dicom.phases.separate import Phase, derived_kind, separate_phases, split_stacks
from seqnorm_monai.images.dicom.scan import Scan, SeriesKey, Source, scan_files, text_of
from seqnorm_monai.images.dicom.volume import Volume
from seqnorm_monai.images.records import FileRecord

_ADVICE = "check that the series was copied or exported as a whole"


@dataclass(frozen=True)
class Series:
    """The volumes of one series, phase after phase, and the errors of the slices that are no volume."""

    study_instance_uid: str
    series_instance_uid: str
    modality: str
    volumes: tuple[Volume, ...]
    errors: tuple[SeriesError, ...] = ()


@dataclass(frozen=True)
class StudyReport:
    """All series of images, those without a readable volume too, and one record for every file.

    A record says `used`, `set_aside` or `rejected`. A multi-frame file of which a part is refused is used, with the
    reason of that part.
    """

    series: tuple[Series, ...]
    files: tuple[FileRecord, ...]

    @property
    def volumes(self) -> tuple[Volume, ...]:
        """The volumes of all series."""
        return tuple(volume for series in self.series for volume in series.volumes)


@dataclass
class _Found:
    """Volumes and errors of one series, on the way."""

    volumes: list[Volume] = field(default_factory=list)
    errors: list[SeriesError] = field(default_factory=list)


def read_studies(sources: Iterable[Source], refused: Iterable[FileRecord] = (), *, num_workers: int = 0) -> StudyReport:
    """Group files by study, series, stack and phase, from their headers only; one bad file stops nothing.

    `sources` and `refused` are those of `seqnorm_monai.images.dicom.open_sources`: the files, and the records of what
    could not be offered at all. Slices of a series with a damaged file are refused, because it may be one of them.
    Headers are read in `num_workers` processes if that is above 0.

    Raises ValueError when two sources have one name.
    """
    sources, refused = list(sources), list(refused)
    scan = scan_files(sources, num_workers)
    series = [_read_series(scan, key, instances) for key, instances in sorted(scan.series.items())]
    return StudyReport(tuple(series), tuple([scan.records[source.name] for source in sources] + refused))


def _read_series(scan: Scan, key: SeriesKey, instances: list[Instance]) -> Series:
    found, by_name = _Found(), {instance.name: instance for instance in instances}
    planes = [plane for instance in instances for plane in instance.planes]
    try:
        stacks = split_stacks(planes)
    except GeometryError as error:
        stacks = []
        found.errors.append(_error(planes, str(error)))
    for number, stack in enumerate(stacks):
        try:
            found.volumes += _stack_volumes(scan, by_name, key, stack, number, len(found.volumes))
        except GeometryError as error:
            found.errors.append(_error(stack, str(error)))
    scan.records |= {record.path: record for record in _records(by_name, key, found)}
    return Series(key[0], key[1], instances[0].modality, tuple(found.volumes), tuple(found.errors))


def _error(planes: Sequence[Plane], reason: str) -> SeriesError:
    names = tuple(dict.fromkeys(plane.name for plane in planes))
    return SeriesError(names, f"its series is refused: {reason}", _ADVICE)


def _records(names: Iterable[str], key: SeriesKey, found: _Found) -> Iterator[FileRecord]:
    """A file is in one volume or error at least, since each of its planes is in one stack."""
    used = {name for volume in found.volumes for name in volume.files}
    reasons: dict[str, list[str]] = defaultdict(list)
    for error in found.errors:
        for name in error.files:
            reasons[name].append(text_of(error))
    for name in names:
        reason = "; ".join(reasons[name])
        if name not in used:
            yield FileRecord(name, "rejected", reason, key[0], key[1])
        else:
            yield FileRecord(name, "used", f"in part, of other frames {reason}" if reason else "", key[0], key[1])


def _stack_volumes(
    scan: Scan, instances: Mapping[str, Instance], key: SeriesKey, stack: list[Plane], number: int, first: int
) -> list[Volume]:
    """The volumes of one stack, all or none: `number` of it, `first` of them in the series. Raises GeometryError."""
    if stack[0].position is None or stack[0].orientation is None:
        return [_volume(instances, key, Phase(tuple(stack)), number, first)]
    if key in scan.spoilt:
        raise GeometryError(f"one of its files cannot be used, {scan.spoilt[key]}")
    if len(stack) > 1 and stack[0].spacing is None:
        raise GeometryError("slices without PixelSpacing")
    phases = separate_phases(stack)
    return [_volume(instances, key, phase, number, first + index) for index, phase in enumerate(phases)]


def _volume(instances: Mapping[str, Instance], key: SeriesKey, phase: Phase, number: int, index: int) -> Volume:
    planes, plane = phase.planes, phase.planes[0]
    affine, spacing, sheared = None, None, False
    if plane.position is not None and plane.orientation is not None and plane.spacing is not None:
        positions = [plane.position for plane in planes]
        geometry = stack_geometry(positions, plane.orientation, plane.spacing, plane.thickness)
        planes = tuple(planes[place] for place in geometry.order)
        affine, spacing, sheared = geometry.affine, geometry.spacing, geometry.sheared
    elif plane.spacing is not None:
        spacing = (plane.spacing[1], plane.spacing[0], 1.0)
    source = instances[plane.name]
    kind = "image" if len(planes) == 1 else "frames" if affine is None else "volume"
    return Volume(
        study_instance_uid=key[0],
        series_instance_uid=key[1],
        sop_instance_uids=tuple(dict.fromkeys(plane.sop_instance_uid for plane in planes)),
        modality=source.modality,
        kind=kind,
        stack=number,
        phase_index=index,
        phase_label=phase.label,
        phase_name=phase.names,
        phase_value=phase.values,
        derived=derived_kind(plane.image_type),
        shape=(len(planes), plane.rows, plane.columns, *([plane.channels] if plane.channels > 1 else [])),
        affine=affine,
        spacing=spacing,
        sheared=sheared,
        problem=phase.problem,
        files=tuple(dict.fromkeys(plane.name for plane in planes)),
        attributes=source.attributes,
        planes=planes,
    )
