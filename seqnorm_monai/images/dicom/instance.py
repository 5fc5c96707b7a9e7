"""The header of one image file as a few numbers: what grouping needs, light enough to send between processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.valuerep import TEXT_VR_DELIMS

from seqnorm_monai.images.dicom.encoding import ENCODING_KEYWORDS, Encoding, read_encoding
from seqnorm_monai.images.dicom.errors import DicomReadError, UnsupportedImageError
from seqnorm_monai.images.dicom.functional_groups import FUNCTIONAL_GROUPS, read_frame_groups
from seqnorm_monai.images.dicom.header import Header, is_uid
from seqnorm_monai.images.dicom.open import read_header
from seqnorm_monai.images.dicom.phase_attributes import (
    CLASSIC_KEYWORDS,
    PRIVATE_TAGS,
    Value,
    read_image_type,
    read_phase_values,
)
from seqnorm_monai.images.dicom.pixels.completeness import check_complete
from seqnorm_monai.images.dicom.pixels.decode import read_cells, readable_syntax
from seqnorm_monai.images.dicom.pixels.pixeldata import no_pixel_data
from seqnorm_monai.images.dicom.silence import quiet_pydicom
from seqnorm_monai.images.dicom.sop_classes import set_aside_kind

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
# Specific Character Set says how they are written.
_CHARACTER_SET = "SpecificCharacterSet"
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
# In the order of trust: PixelSpacing may be calibrated to the patient, the others are at the detector or the film.
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", *_SPACINGS)
_KEYWORDS = (
    *_UIDS,
    *ENCODING_KEYWORDS,
    _CHARACTER_SET,
    *_GEOMETRY,
    *CLASSIC_KEYWORDS,
    *RULE_KEYWORDS,
    *FUNCTIONAL_GROUPS,
)
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
    spacing_source: str = ""
    phase: Mapping[str, Value] = field(default_factory=dict)
    rescale: tuple[float, float] | None = None
    encoding: Encoding | None = None


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
    """A damaged file whose series is known, and its SOPInstanceUID where it has one."""

    def __init__(self, error: DicomReadError, study: str, series: str, sop: str = "") -> None:
        super().__init__(error, study, series, sop)
        self.error, self.study, self.series, self.sop = error, study, series, sop


def read_instance(name: str, path: str | os.PathLike[str]) -> Instance:
    """Scan one file. Raises SetAside, BadInstance, or a DicomReadError of a file whose series is unknown."""
    with quiet_pydicom():
        return _read_instance(name, path)


def _read_instance(name: str, path: str | os.PathLike[str]) -> Instance:
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
        known = [uid if is_uid(uid) else "" for uid in (study, series, sop)]
        raise BadInstance(error, *known) from None


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
        "encoding": read_encoding(header),
    }
    if groups is not None:
        return tuple(Plane(frame=index, **common, **group) for index, group in enumerate(groups))
    position = _numbers(header, "ImagePositionPatient", 3) if frames == 1 else None
    spacing, spacing_source = _spacing(header)
    if position is not None and spacing is None and header.raw("PixelSpacing") is not None:
        # without it the slice would be no part of its stack
        raise header.unusable("PixelSpacing", "is not two positive numbers")
    one = {
        "position": position,
        "orientation": _numbers(header, "ImageOrientationPatient", 6) if frames == 1 else None,
        "spacing": spacing,
        "spacing_source": spacing_source,
        "thickness": _positive(header, "SliceThickness"),
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
    syntax = readable_syntax(header)
    claimed = cells.size * samples * frames
    available = header.path.stat().st_size
    packed = header.pixel_offset is None or (syntax != "" and syntax.is_compressed)
    if claimed > max(_ALWAYS_ALLOWED, available * (_COMPRESSION if packed else _NATIVE)):
        raise UnsupportedImageError(
            header.path,
            f"{frames} x {cells.rows} x {cells.columns} pixels are claimed, the file has {available} bytes",
            "Rows, Columns or NumberOfFrames is wrong or the file is cut off",
        )
    check_complete(header, -(-_native_bits(header, cells.frame_bits, samples) * frames // 8))
    return 3 if samples == 3 or header.code("PhotometricInterpretation") == "PALETTE COLOR" else 1


def _native_bits(header: Header, bits: int, samples: int) -> int:
    """Of one frame; YBR_FULL_422 has two samples for each pixel instead of three (PS3.3 section C.7.6.3.1.2)."""
    return bits * (2 if header.code("PhotometricInterpretation") == "YBR_FULL_422" else samples)


def _numbers(header: Header, keyword: str, count: int) -> tuple[float, ...] | None:
    values = header.decimals(keyword)
    if values and len(values) != count:
        raise header.unusable(keyword, f"does not have {count} values")
    return values or None


def _positive(header: Header, keyword: str) -> float | None:
    """A length that only a single slice needs: what is none is passed over."""
    try:
        values = header.decimals(keyword)
    except UnsupportedImageError:
        return None
    return values[0] if len(values) == 1 and values[0] > 0 else None


def _spacing(header: Header) -> tuple[tuple[float, float] | None, str]:
    """The first usable spacing of PS3.3 section 10.7.1 and its keyword."""
    for keyword in _SPACINGS:
        if spacing := _pair(header, keyword):
            return spacing, keyword
    return None, ""


def _pair(header: Header, keyword: str) -> tuple[float, float] | None:
    """A spacing; zeros and text, left by anonymisers, are passed over."""
    try:
        values = header.decimals(keyword)
    except UnsupportedImageError:
        return None
    return (values[0], values[1]) if len(values) == 2 and min(values) > 0 else None


def _attributes(header: Header) -> dict[str, object]:
    """Values for selection rules: numbers as numbers, several values as a list, text in the file's character set."""
    found: dict[str, object] = {"ImageType": list(read_image_type(header)), "SOPClassUID": header.text("SOPClassUID")}
    encodings = _encodings(header)
    for keyword in RULE_KEYWORDS:
        raw = header.raw(keyword)
        if raw is None:
            continue
        try:
            text = decode_bytes(raw[1], encodings, TEXT_VR_DELIMS).strip(" \0")
        # a text that is not in the character set which the file names
        except (UnicodeError, LookupError):
            text = header.text(keyword)
        values = [_number(part.strip()) if raw[0] in ("DS", "IS") else part.strip() for part in text.split("\\")]
        found[keyword] = values if len(values) > 1 else values[0]
    return found


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _encodings(header: Header) -> list[str]:
    names = header.text(_CHARACTER_SET).split("\\")
    try:
        with quiet_pydicom():
            return list(convert_encodings(names))
    except (LookupError, ValueError):
        return ["latin-1"]
