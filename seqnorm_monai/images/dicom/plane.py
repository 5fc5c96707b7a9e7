"""What the scan of one file gives: its planes with all that grouping needs, light enough to send between processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from seqnorm_monai.images.dicom.encoding import Encoding
from seqnorm_monai.images.dicom.phase_attributes import Value
from seqnorm_monai.images.records import FileRecord, FileStatus


@dataclass(frozen=True)
class Plane:
    """One frame of one file. Position and the two direction cosines in mm of the patient system (LPS), or None.

    Identifiers are those of `identifiers.safe_identifier`. `projection`: an image for itself, without position.
    `capture`: a secondary capture under the Modality of slices, which may be a slice or an image for itself.
    """

    name: str
    path: Path
    frame: int
    sop_instance_uid: str
    frame_of_reference: str
    rows: int
    columns: int
    channels: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, float] | None
    thickness: float | None
    stack: str
    image_type: tuple[str, ...]
    phase: Mapping[str, Value] = field(default_factory=dict)
    spacing_source: str = ""
    rescale: tuple[float, float] | None = None
    encoding: Encoding | None = None
    projection: bool = False
    capture: bool = False


@dataclass(frozen=True)
class Instance:
    """One image file: identifiers, attributes for rules, and its planes."""

    name: str
    path: Path
    study: str
    series: str
    sop: str
    modality: str
    attributes: Mapping[str, object]
    planes: tuple[Plane, ...]


@dataclass(frozen=True)
class Excluded:
    """A file that is no image, or none that can be used: `status` and `reason` as in its `FileRecord`.

    `study`, `series` and `sop` as far as they are known. `fault`: the reason without its advice, for the neighbours of
    a rejected file; "" where its series is not known.
    """

    name: str
    status: FileStatus
    reason: str
    study: str = ""
    series: str = ""
    sop: str = ""
    fault: str = ""

    def record(self) -> FileRecord:
        return FileRecord(self.name, self.status, self.reason, self.study, self.series)


ScanResult = Instance | Excluded
