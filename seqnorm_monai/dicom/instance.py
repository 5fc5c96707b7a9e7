"""The header of one image file as a few numbers: what grouping needs, light enough to send between processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.uid import UID

from seqnorm_monai.dicom.decode import DECODE_KEYWORDS, read_cells
from seqnorm_monai.dicom.errors import DicomReadError, UnsupportedImageError
from seqnorm_monai.dicom.files import read_header
from seqnorm_monai.dicom.frames import FUNCTIONAL_GROUPS, read_frame_groups
from seqnorm_monai.dicom.header import Header, is_uid
from seqnorm_monai.dicom.kinds import set_aside_kind
from seqnorm_monai.dicom.phase_values import (
    CLASSIC_KEYWORDS,
    PRIVATE_TAGS,
    Value,
    read_image_type,
    read_phase_values,
)
from seqnorm_monai.dicom.pixeldata import no_pixel_data

# Attributes that selection rules may ask for; none of them identifies a patient.
RULE_KEYWORDS = (
    "Modality",
    "SeriesDescription",
    "StudyDescription",
    "ProtocolName",
    "SeriesNumber",
    "BodyPartExamined",
    "SliceThickness",
    "ViewPosition",
    "ImageLaterality",
    "Manufacturer",
    "ConvolutionKernel",
    "ScanningSequence",
    "SequenceName",
    "ContrastBolusAgent",
    "MagneticFieldStrength",
    "RepetitionTime",
)
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
_GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing")
_KEYWORDS = (*_UIDS, *_GEOMETRY, *DECODE_KEYWORDS, *CLASSIC_KEYWORDS, *RULE_KEYWORDS, *FUNCTIONAL_GROUPS)
# A file may claim to hold more than it does: a compressed one up to this ratio, and nothing below this many bytes.
_COMPRESSION = 4096
_NATIVE = 16
_ALWAYS_ALLOWED = 2**26
MAX_FRAMES = 100_000


@dataclass(frozen=True)
class Plane:
    """One frame of one file. Position and the two direction cosines in mm of the patient system (LPS), or None."""

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
    rescale: tuple[float, float] | None = None


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


class SetAside(Exception):
    """A file that is not an image for this reader; the text says what it is. `study` and `series` as far as known."""

    def __init__(self, reason: str, study: str = "", series: str = "") -> None:
        super().__init__(reason, study, series)
        self.reason, self.study, self.series = reason, study, series


class BadInstance(Exception):
    """A damaged file whose series is known."""

    def __init__(self, error: DicomReadError, study: str, series: str) -> None:
        super().__init__(error, study, series)
        self.error, self.study, self.series = error, study, series


def read_instance(name: str, path: str | os.PathLike[str]) -> Instance:
    """Scan one file. Raises SetAside, BadInstance, or a DicomReadError of a file whose series is unknown."""
    header = read_header(path, (*_KEYWORDS, *PRIVATE_TAGS))
    study, series, sop = (header.text(keyword) for keyword in _UIDS[:3])
    try:
        for keyword, uid in zip(_UIDS, (study, series, sop), strict=False):
            if uid and not is_uid(uid):
                raise header.unusable(keyword, "is not a UID")
        kind = set_aside_kind(header)
        image_type = read_image_type(header)
        if not kind and "LOCALIZER" in image_type:
            kind = "a localizer (ImageType)"
        if kind:
            raise SetAside(kind, study, series)
        if "MOSAIC" in image_type:
            raise UnsupportedImageError(header.path, "a mosaic: many slices side by side", "export it as enhanced MR")
        planes = _planes(header, name, sop, image_type)
        return Instance(name, Path(path), study, series, sop, header.code("Modality"), _attributes(header), planes)
    except DicomReadError as error:
        raise BadInstance(error, study, series) from None


def _planes(header: Header, name: str, sop: str, image_type: tuple[str, ...]) -> tuple[Plane, ...]:
    frames = header.integer("NumberOfFrames")
    frames = 1 if frames is None else frames
    channels = _check_size(header, frames)
    rows, columns = header.integer("Rows"), header.integer("Columns")
    groups = read_frame_groups(header, frames, image_type)
    common = {
        "name": name,
        "path": header.path,
        "sop_instance_uid": sop,
        "frame_of_reference": header.text("FrameOfReferenceUID"),
        "rows": rows,
        "columns": columns,
        "channels": channels,
    }
    if groups is not None:
        return tuple(Plane(frame=index, **common, **group) for index, group in enumerate(groups))
    spacing = _pair(header, "PixelSpacing") or _pair(header, "ImagerPixelSpacing")
    thickness = header.decimals("SliceThickness")
    one = {
        "position": _numbers(header, "ImagePositionPatient", 3) if frames == 1 else None,
        "orientation": _numbers(header, "ImageOrientationPatient", 6) if frames == 1 else None,
        "spacing": spacing,
        "thickness": thickness[0] if len(thickness) == 1 and thickness[0] > 0 else None,
        "stack": "",
        "image_type": image_type,
        "phase": read_phase_values([header], image_type),
    }
    return tuple(Plane(frame=index, **common, **one) for index in range(frames))


def _check_size(header: Header, frames: int) -> int:
    """Refuse sizes that the file cannot hold; return the number of channels of the decoded image."""
    if header.pixel_offset is None and header.integer("Rows") is None:
        raise no_pixel_data(header)
    cells = read_cells(header)
    samples = header.integer("SamplesPerPixel") or 1
    if samples not in (1, 3):
        raise UnsupportedImageError(header.path, f"SamplesPerPixel is {samples}, supported are 1 and 3")
    if not 1 <= frames <= MAX_FRAMES:
        raise UnsupportedImageError(header.path, f"NumberOfFrames is {frames}, supported are 1 to {MAX_FRAMES}")
    syntax = header.transfer_syntax
    if syntax and any(name in UID(syntax).name for name in ("MPEG", "HEVC")):
        raise UnsupportedImageError(header.path, f"a video ({UID(syntax).name})", "export it as single frames")
    claimed = cells.size * samples * frames
    available = header.path.stat().st_size
    packed = header.pixel_offset is None or (is_uid(syntax) and UID(syntax).is_compressed)
    if claimed > max(_ALWAYS_ALLOWED, available * (_COMPRESSION if packed else _NATIVE)):
        raise UnsupportedImageError(
            header.path,
            f"{frames} x {cells.rows} x {cells.columns} pixels are claimed, the file has {available} bytes",
            "Rows, Columns or NumberOfFrames is wrong or the file is cut off",
        )
    return 3 if samples == 3 or header.code("PhotometricInterpretation") == "PALETTE COLOR" else 1


def _numbers(header: Header, keyword: str, count: int) -> tuple[float, ...] | None:
    values = header.decimals(keyword)
    if values and len(values) != count:
        raise header.unusable(keyword, f"does not have {count} values")
    return values or None


def _pair(header: Header, keyword: str) -> tuple[float, float] | None:
    """A spacing; zeros and text, left by anonymisers, are passed over."""
    try:
        values = header.decimals(keyword)
    except UnsupportedImageError:
        return None
    return (values[0], values[1]) if len(values) == 2 and min(values) > 0 else None


def _attributes(header: Header) -> dict[str, object]:
    found: dict[str, object] = {"ImageType": list(read_image_type(header)), "SOPClassUID": header.text("SOPClassUID")}
    for keyword in RULE_KEYWORDS:
        if text := header.text(keyword):
            try:
                found[keyword] = float(text)
            except ValueError:
                found[keyword] = text.split("\\") if "\\" in text else text
    return found
