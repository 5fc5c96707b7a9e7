"""Any set of files to the volumes in it, and one record for every file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from seqnorm_monai.images.dicom.errors import SeriesError
from seqnorm_monai.images.dicom.geometry import GeometryError, stack_geometry
from seqnorm_monai.images.dicom.instance import reason_text
from seqnorm_monai.images.dicom.phases.expected_counts import check_concatenations, check_expected_counts
from seqnorm_monai.images.dicom.phases.separate import Phase, separate_phases
from seqnorm_monai.images.dicom.plane import Instance, Plane
from seqnorm_monai.images.dicom.scan import SeriesKey, Source, scan_files
from seqnorm_monai.images.dicom.stacks import derived_kind, lone_stacks, split_stacks
from seqnorm_monai.images.dicom.volume import Volume
from seqnorm_monai.images.records import FileRecord, FileStatus

# Two captures at two places may have their header from two slices; more of them at even distances are a volume.
_FEWEST_SLICES = 3
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
class ScannedStudies:
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


def read_studies(
    sources: Iterable[Source], refused: Iterable[FileRecord] = (), *, num_workers: int = 0
) -> ScannedStudies:
    """Group files by study, series, stack and phase, from their headers only; one bad file stops nothing.

    `sources` and `refused` are those of `seqnorm_monai.images.dicom.open_sources`: the files, and the records of what
    could not be offered at all. Slices of a series with a damaged file are refused, because it may be one of them.
    Headers are read in `num_workers` processes if that is above 0.

    Raises ValueError when two sources have one name.
    """
    sources, refused = list(sources), list(refused)
    scan = scan_files(sources, num_workers)
    found = []
    for key, instances in sorted(scan.series.items()):
        reader = _SeriesReader(key, instances, scan.incomplete.get(key, ""))
        found.append(reader.read())
        scan.records |= {record.path: record for record in reader.records()}
    return ScannedStudies(tuple(found), tuple([scan.records[source.name] for source in sources] + refused))


class _SeriesReader:
    """One series on its way from instances to volumes. `incomplete`: why it may lack a slice, "" if it does not."""

    def __init__(self, key: SeriesKey, instances: Sequence[Instance], incomplete: str) -> None:
        self.study, self.series = key[:2]
        self.instances = {instance.name: instance for instance in instances}
        self.incomplete = incomplete
        self.volumes: list[Volume] = []
        self.errors: list[SeriesError] = []

    def read(self) -> Series:
        planes = self._captures_placed([plane for instance in self.instances.values() for plane in instance.planes])
        stacks = self._slice_stacks([plane for plane in planes if not plane.projection])
        stacks += self._projections([plane for plane in planes if plane.projection])
        for number, stack in enumerate(stacks):
            try:
                self.volumes += self._stack_volumes(stack, number)
            except GeometryError as error:
                self._refuse(stack, error)
        modality = next(iter(self.instances.values())).modality
        return Series(self.study, self.series, modality, tuple(self.volumes), tuple(self.errors))

    def _captures_placed(self, planes: list[Plane]) -> list[Plane]:
        """Secondary captures as slices where they alone make volumes of several slices, as converters write them.

        Else each is an image for itself: the position in its header is that of the slice from which it was copied.
        """
        captures = [plane for plane in planes if plane.capture]
        slices = any(not plane.capture and not plane.projection for plane in planes)
        if not captures or (not slices and self._are_volumes(captures)):
            return planes
        return [
            replace(plane, position=None, orientation=None, projection=True) if plane.capture else plane
            for plane in planes
        ]

    def _are_volumes(self, planes: list[Plane]) -> bool:
        try:
            stacks = split_stacks(planes)
            check_expected_counts(stacks)
            volumes = [volume for number, stack in enumerate(stacks) for volume in self._stack_volumes(stack, number)]
        except GeometryError:
            return False
        return all(len(volume.planes) >= _FEWEST_SLICES for volume in volumes)

    def records(self) -> Iterator[FileRecord]:
        """A file is in one volume or error at least, since each of its planes is in one stack."""
        used = {name for volume in self.volumes for name in volume.files}
        reasons: dict[str, list[str]] = defaultdict(list)
        for error in self.errors:
            for name in error.files:
                reasons[name].append(reason_text(error))
        for name in self.instances:
            reason = "; ".join(reasons[name])
            status = FileStatus.USED if name in used else FileStatus.REJECTED
            if status == FileStatus.USED and reason:
                reason = f"in part, of other frames {reason}"
            yield FileRecord(name, status, reason, self.study, self.series)

    def _refuse(self, planes: Sequence[Plane], error: GeometryError) -> None:
        names = tuple(dict.fromkeys(plane.name for plane in planes))
        self.errors.append(SeriesError(names, f"its series is refused: {error}", _ADVICE))

    def _slice_stacks(self, planes: list[Plane]) -> list[list[Plane]]:
        try:
            stacks = split_stacks(planes)
            check_expected_counts(stacks)
        except GeometryError as error:
            self._refuse(planes, error)
            return []
        return stacks

    def _projections(self, planes: list[Plane]) -> list[list[Plane]]:
        """Images for themselves: no other file of the series says anything of them, but for parts of one image."""
        parts = [plane for plane in planes if "ConcatenationUID" in plane.phase]
        try:
            check_concatenations(parts)
        except GeometryError as error:
            self._refuse(parts, error)
            planes = [plane for plane in planes if "ConcatenationUID" not in plane.phase]
        return lone_stacks(planes)

    def _stack_volumes(self, stack: list[Plane], number: int) -> list[Volume]:
        """The volumes of one stack, all or none. Raises GeometryError."""
        if stack[0].position is None or stack[0].orientation is None:
            return [self._volume(Phase(tuple(stack)), number, 0)]
        if self.incomplete:
            raise GeometryError(f"one of its files cannot be used, {self.incomplete}")
        if len(stack) > 1 and stack[0].spacing is None:
            raise GeometryError("slices without PixelSpacing")
        return [self._volume(phase, number, index) for index, phase in enumerate(separate_phases(stack))]

    def _volume(self, phase: Phase, number: int, index: int) -> Volume:
        planes, plane = phase.planes, phase.planes[0]
        affine, spacing, sheared = None, None, False
        if plane.position is not None and plane.orientation is not None and plane.spacing is not None:
            positions = [plane.position for plane in planes]
            geometry = stack_geometry(positions, plane.orientation, plane.spacing, plane.thickness)
            planes = tuple(planes[place] for place in geometry.order)
            affine, spacing, sheared = geometry.affine, geometry.spacing, geometry.sheared
        elif plane.spacing is not None:
            spacing = (plane.spacing[1], plane.spacing[0], 1.0)
        source = self.instances[plane.name]
        return Volume(
            study_instance_uid=self.study,
            series_instance_uid=self.series,
            sop_instance_uids=tuple(dict.fromkeys(plane.sop_instance_uid for plane in planes)),
            modality=source.modality,
            kind="image" if len(planes) == 1 else "frames" if affine is None else "volume",
            stack=number,
            phase_index=index,
            phase_label=phase.label,
            phase_name=phase.names,
            phase_value=phase.values,
            derived="" if plane.projection else derived_kind(plane.image_type),
            shape=(len(planes), plane.rows, plane.columns, *([plane.channels] if plane.channels > 1 else [])),
            affine=affine,
            spacing=spacing,
            sheared=sheared,
            warning=phase.warning,
            files=tuple(dict.fromkeys(plane.name for plane in planes)),
            attributes=source.attributes,
            planes=planes,
        )
