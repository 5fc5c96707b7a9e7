"""The volumes of a study that may be phases of its dynamic series, with what tells them from the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from seqnorm_monai.images.dicom.volume import Volume
from seqnorm_monai.images.dynamic.grids import Grid
from seqnorm_monai.images.inventory import ImageEntry

# how much the numbers of one protocol may differ: relative for the repetition time, in ms and degrees for the others
_REPETITION, _ECHO, _FLIP = 0.02, 0.05, 0.5
# attributes by which phases of one series differ in another way than in time
_NOT_TIME = {
    "EchoTime": "echo times",
    "EchoNumber": "echoes",
    "BValue": "b-values",
    "GradientDirection": "gradient directions",
    "InversionTime": "inversion times",
    "FlipAngle": "flip angles",
    "Component": "components of the signal",
    "Origin": "original and derived pixels",
    "KVP": "tube voltages",
    "CardiacPhase": "phases of the heart",
}


@dataclass(frozen=True)
class Protocol:
    """What makes the contrast of an image: ms, ms, degrees and texts; None or "" where the file does not tell."""

    repetition_time: float | None = None
    echo_time: float | None = None
    flip_angle: float | None = None
    sequence: str = ""
    options: str = ""

    def is_same(self, other: Protocol) -> bool:
        """Whether all that both files tell agrees."""
        numbers = (
            (self.repetition_time, other.repetition_time, _REPETITION * max(self.repetition_time or 0, 1)),
            (self.echo_time, other.echo_time, _ECHO),
            (self.flip_angle, other.flip_angle, _FLIP),
        )
        texts = ((self.sequence, other.sequence), (self.options, other.options))
        return all(one is None or two is None or abs(one - two) <= most for one, two, most in numbers) and all(
            not one or not two or one == two for one, two in texts
        )

    @property
    def is_told(self) -> bool:
        """Whether the file tells the three numbers."""
        return None not in (self.repetition_time, self.echo_time, self.flip_angle)


@dataclass(frozen=True)
class Candidate:
    """One volume of a study; `agent`: the contrast agent that the file names, "" for none."""

    entry: ImageEntry
    grid: Grid
    protocol: Protocol
    agent: str
    series: tuple[int, int]

    @property
    def label(self) -> str:
        """How a message names it: by numbers, never by what a person wrote."""
        row = self.entry.row
        phase = f" phase {row.phase}/{row.phases}" if row.phases > 1 else ""
        return f"series {row.series}" + (f" (number {row.series_number})" if row.series_number else "") + phase

    def clock(self, name: str) -> float | None:
        """The earliest value of an attribute over the slices; None where no slice has it as a number."""
        values = (plane.phase.get(name) for plane in self.entry.volume.planes)
        numbers = [float(value) for value in values if isinstance(value, (int, float))]
        return min(numbers, default=None)


def other_than_a_phase(entry: ImageEntry) -> str:
    """Why an image cannot be a phase, "" if it may be one."""
    volume = entry.volume
    if entry.derived:
        return f"a derived map ({entry.derived})"
    if entry.row.kind != "volume":
        return f"{'one slice' if entry.row.kind == 'image' else 'frames without a place'}, no volume"
    if entry.row.channels != 1:
        return f"an image of {entry.row.channels} channels"
    if isinstance(volume, Volume):
        if volume.modality not in ("", "MR"):
            return f"Modality {volume.modality}, accepted is MR"
        other = [text for name, text in _NOT_TIME.items() if name in volume.phase_name]
        if other:
            return f"phases by {' and '.join(other)}, not by time alone"
    return ""


def candidate(entry: ImageEntry) -> Candidate:
    """A volume in DICOM as a candidate."""
    volume = entry.volume
    plane, attributes = volume.planes[0], volume.attributes
    protocol = Protocol(
        repetition_time=_number(attributes.get("RepetitionTime")),
        echo_time=_number(plane.phase.get("EchoTime")),
        flip_angle=_number(plane.phase.get("FlipAngle")),
        sequence=_text(attributes, "ScanningSequence"),
        options=_text(attributes, "ScanOptions"),
    )
    grid = Grid(entry.row.shape, entry.row.affine, plane.frame_of_reference)
    agent = _text(attributes, "ContrastBolusAgent")
    return Candidate(entry, grid, protocol, agent, (entry.row.study, entry.row.series))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _text(attributes: Mapping[str, object], keyword: str) -> str:
    value = attributes.get(keyword, "")
    parts = value if isinstance(value, list) else [value]
    return "\\".join(str(part).strip().upper() for part in parts).strip("\\")
