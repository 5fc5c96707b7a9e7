"""The header of one image file as an `Instance`: a few numbers, or why the file is none."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from seqnorm_monai.images.dicom.encoding import ENCODING_KEYWORDS, read_encoding
from seqnorm_monai.images.dicom.errors import DicomReadError, UnsupportedImageError
from seqnorm_monai.images.dicom.functional_groups import FUNCTIONAL_GROUPS, read_frame_groups
from seqnorm_monai.images.dicom.header import Header
from seqnorm_monai.images.dicom.open import open_header
from seqnorm_monai.images.dicom.phase_attributes import (
    CLASSIC_KEYWORDS,
    PRIVATE_TAGS,
    read_image_type,
    read_phase_values,
)
from seqnorm_monai.images.dicom.pixels.decode import readable_syntax
from seqnorm_monai.images.dicom.pixels.fragments import check_complete, no_pixel_data
from seqnorm_monai.images.dicom.pixels.layout import PixelLayout, read_pixel_layout
from seqnorm_monai.images.dicom.plane import Excluded, Instance, Plane, ScanResult
from seqnorm_monai.images.dicom.rule_attributes import CHARACTER_SET, RULE_KEYWORDS, rule_attributes
from seqnorm_monai.images.dicom.silence import pydicom_silenced
from seqnorm_monai.images.dicom.sop_classes import is_capture, is_projection, not_an_image
from seqnorm_monai.images.machine_errors import raise_machine_error
from seqnorm_monai.images.records import FileStatus

_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
# In the order of trust: PixelSpacing may be calibrated to the patient, the others are at the detector or the film.
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", *_SPACINGS)
_KEYWORDS = (
    *_UIDS,
    "FrameOfReferenceUID",
    *ENCODING_KEYWORDS,
    CHARACTER_SET,
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


def read_instance(name: str, path: str | os.PathLike[str]) -> ScanResult:
    """Scan one file, which is opened once. Nothing raises for a file; errors of the machine do."""
    try:
        with pydicom_silenced(), open_header(path, (*_KEYWORDS, *PRIVATE_TAGS)) as header:
            return _read_instance(header, name)
    except DicomReadError as error:
        return Excluded(name, FileStatus.REJECTED, reason_text(error))
    # a damaged header may raise anything; its text is not passed on
    except Exception as error:
        raise_machine_error(error)
        return Excluded(name, FileStatus.REJECTED, f"the header cannot be used ({type(error).__name__})")


def reason_text(error: DicomReadError) -> str:
    """Reason and advice, without the path that a record has anyway."""
    return error.reason + (f" ({error.advice})" if error.advice else "")


def _read_instance(header: Header, name: str) -> ScanResult:
    study, series, sop = (header.identifier(keyword) for keyword in _UIDS)
    try:
        projection = is_projection(header)
        image_type = read_image_type(header)
        kind = not_an_image(header)
        if not kind and not projection and "LOCALIZER" in image_type:
            kind = "a localizer (ImageType)"
        if kind:
            return Excluded(name, FileStatus.SET_ASIDE, kind, study, series)
        if not projection and "MOSAIC" in image_type:
            raise UnsupportedImageError(header.path, "a mosaic: many slices side by side", "export it as enhanced MR")
        planes = _placed_planes(header, name, sop, image_type, projection=projection)
        attributes = rule_attributes(header)
    except DicomReadError as error:
        return Excluded(name, FileStatus.REJECTED, reason_text(error), study, series, sop, error.reason)
    return Instance(name, header.path, study, series, sop, header.label("Modality"), attributes, planes)


def _placed_planes(
    header: Header, name: str, sop: str, image_type: tuple[str, ...], *, projection: bool
) -> tuple[Plane, ...]:
    """`_planes`; a secondary capture whose geometry cannot be used is an image for itself."""
    if projection or not is_capture(header):
        return _planes(header, name, sop, image_type, projection=projection)
    try:
        planes = _planes(header, name, sop, image_type, projection=False)
    except UnsupportedImageError:
        return _planes(header, name, sop, image_type, projection=True)
    return tuple(replace(plane, capture=True) for plane in planes)


def _planes(header: Header, name: str, sop: str, image_type: tuple[str, ...], *, projection: bool) -> tuple[Plane, ...]:
    frames = header.frames()
    layout, channels = _check_size(header, frames)
    groups = read_frame_groups(header, frames, image_type, placed=not projection)
    if groups is None:
        groups = [_place(header, placed=frames == 1 and not projection)] * frames
        common = {"stack": "", "image_type": image_type, "phase": read_phase_values([header], image_type)}
    else:
        common = {}
    common |= {
        "name": name,
        "path": header.path,
        "sop_instance_uid": sop,
        "frame_of_reference": header.identifier("FrameOfReferenceUID"),
        "rows": layout.rows,
        "columns": layout.columns,
        "channels": channels,
        "encoding": read_encoding(header, layout),
        "projection": projection,
    }
    return tuple(Plane(frame=index, **common, **group) for index, group in enumerate(groups))


def _place(header: Header, *, placed: bool) -> dict[str, Any]:
    """The geometry of an image without functional groups: its size, and where it is if it may be `placed`."""
    position = header.vector("ImagePositionPatient", 3) if placed else None
    spacing, source = _spacing(header)
    if position is not None and spacing is None and header.raw("PixelSpacing") is not None:
        # without it the slice would be no part of its stack
        raise header.unusable("PixelSpacing", "is not two positive numbers")
    return {
        "position": position,
        "orientation": header.vector("ImageOrientationPatient", 6) if placed else None,
        "spacing": spacing,
        "spacing_source": source,
        "thickness": header.positive("SliceThickness"),
    }


def _spacing(header: Header) -> tuple[tuple[float, float] | None, str]:
    """The first usable spacing of PS3.3 section 10.7.1 and its keyword."""
    for keyword in _SPACINGS:
        if spacing := header.spacing_pair(keyword):
            return spacing, keyword
    return None, ""


def _check_size(header: Header, frames: int) -> tuple[PixelLayout, int]:
    """Refuse sizes that the file cannot hold; return the layout and the number of channels of the decoded image."""
    if header.pixel_offset is None and header.integer("Rows") is None:
        raise no_pixel_data(header)
    layout = read_pixel_layout(header)
    samples = header.integer("SamplesPerPixel") or 1
    if samples not in (1, 3):
        raise UnsupportedImageError(header.path, f"SamplesPerPixel is {samples}, supported are 1 and 3")
    if not 1 <= frames <= MAX_FRAMES:
        raise UnsupportedImageError(header.path, f"NumberOfFrames is {frames}, supported are 1 to {MAX_FRAMES}")
    syntax = readable_syntax(header)
    claimed = layout.size * samples * frames
    available = header.path.stat().st_size
    packed = header.pixel_offset is None or (syntax != "" and syntax.is_compressed)
    if claimed > max(_ALWAYS_ALLOWED, available * (_COMPRESSION if packed else _NATIVE)):
        raise UnsupportedImageError(
            header.path,
            f"{frames} x {layout.rows} x {layout.columns} pixels are claimed, the file has {available} bytes",
            "Rows, Columns or NumberOfFrames is wrong or the file is cut off",
        )
    check_complete(header, -(-_native_bits(header, layout.frame_bits, samples) * frames // 8))
    colour = samples == 3 or header.code("PhotometricInterpretation") == "PALETTE COLOR"
    return layout, 3 if colour else 1


def _native_bits(header: Header, bits: int, samples: int) -> int:
    """Of one frame; YBR_FULL_422 has two samples for each pixel instead of three (PS3.3 section C.7.6.3.1.2)."""
    return bits * (2 if header.code("PhotometricInterpretation") == "YBR_FULL_422" else samples)
