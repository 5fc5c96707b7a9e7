"""The functional groups of an enhanced multi-frame image (PS3.3 section C.7.6.16)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import keyword_for_tag, tag_for_keyword

from seqnorm_monai.images.dicom.errors import UnsupportedImageError
from seqnorm_monai.images.dicom.header import Header
from seqnorm_monai.images.dicom.phase_attributes import Value, own_values, read_image_type, with_image_type

FUNCTIONAL_GROUPS = (
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "DimensionIndexSequence",
)
_FRAME_TYPES = (
    "MRImageFrameTypeSequence",
    "CTImageFrameTypeSequence",
    "PETFrameTypeSequence",
    "XAXRFFrameCharacteristicsSequence",
)
# the macros whose elements tell phases apart
_PHASE_MACROS = (
    "FrameContentSequence",
    "MREchoSequence",
    "MRDiffusionSequence",
    "CardiacSynchronizationSequence",
    "MRModifierSequence",
    "MRTimingAndRelatedParametersSequence",
    "TemporalPositionSequence",
    "CTXRayDetailsSequence",
    *_FRAME_TYPES,
)
# fields of a plane that all frames have, or none
_REQUIRED = {
    "position": "ImagePositionPatient",
    "orientation": "ImageOrientationPatient",
    "spacing": "PixelSpacing",
    "rescale": "RescaleSlope (PixelValueTransformationSequence)",
}
# The direction of a diffusion gradient lies one sequence deeper.
_DEEPER = "DiffusionGradientDirectionSequence"
# dimensions that say where a frame is, not when or how it was taken
_PLACES = frozenset(
    (
        "StackID",
        "InStackPositionNumber",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PlanePositionSequence",
        "PlaneOrientationSequence",
    )
)


@dataclass(frozen=True)
class _Group:
    """What one item states: fields of a `Plane`, absent ones left out, and the values that tell phases apart."""

    fields: dict[str, Any]
    values: dict[str, Value]
    image_type: tuple[str, ...]


def read_frame_groups(
    header: Header, frames: int, image_type: tuple[str, ...], *, placed: bool
) -> list[dict[str, Any]] | None:
    """For each frame the fields of a `Plane` that the functional groups state; None for an image without them.

    A macro is taken from the frame's own item, else from the shared one, which is read once. Only of frames that may be
    `placed` in the patient the geometry is read.

    Raises UnsupportedImageError when the number of items is not that of the frames, or geometry or rescale is not
    usable.
    """
    per_frame = header.items("PerFrameFunctionalGroupsSequence")
    shared = header.first_item("SharedFunctionalGroupsSequence")
    if not per_frame and shared is None:
        return None
    if per_frame and len(per_frame) != frames:
        raise UnsupportedImageError(
            header.path, f"{len(per_frame)} functional groups for {frames} frames (PerFrameFunctionalGroupsSequence)"
        )
    dimensions = _dimensions(header)
    everywhere = own_values(header)
    common = _Group({}, {}, ()) if shared is None else _read_group(shared, dimensions, placed)
    planes = []
    groups = (
        (_read_group(item, dimensions, placed) for item in per_frame) if per_frame else [_Group({}, {}, ())] * frames
    )
    for own in groups:
        kind = own.image_type or common.image_type or image_type
        values = with_image_type({**everywhere, **common.values, **own.values}, kind)
        absent = dict.fromkeys(("position", "orientation", "spacing", "thickness", "rescale")) | {"stack": ""}
        planes.append({**absent, **common.fields, **own.fields, "image_type": kind, "phase": values})
    _check_everywhere(header, planes, _REQUIRED if placed else ("rescale",))
    return planes


def _check_everywhere(header: Header, planes: Sequence[dict[str, Any]], required: Iterable[str]) -> None:
    """A macro is shared or stands in every frame (PS3.3 section C.7.6.16.1.1): where one lacks it, it was lost."""
    for name in required:
        absent = sum(plane[name] is None for plane in planes)
        if 0 < absent < len(planes):
            raise UnsupportedImageError(header.path, f"{absent} of {len(planes)} frames have no {_REQUIRED[name]}")


def _read_group(group: Header, dimensions: Sequence[str], placed: bool) -> _Group:
    fields: dict[str, Any] = {}
    if (measures := group.first_item("PixelMeasuresSequence")) is not None:
        if placed:
            # raises for what is no number, which a stack cannot do without
            measures.decimals("PixelSpacing")
        fields["spacing"] = measures.spacing_pair("PixelSpacing")
        fields["thickness"] = measures.positive("SliceThickness")
    if placed and (place := group.first_item("PlanePositionSequence")) is not None:
        fields["position"] = place.vector("ImagePositionPatient", 3)
    if placed and (place := group.first_item("PlaneOrientationSequence")) is not None:
        fields["orientation"] = place.vector("ImageOrientationPatient", 6)
    if (transformation := group.first_item("PixelValueTransformationSequence")) is not None:
        fields["rescale"] = _rescale(transformation)
    values, kind = {}, ()
    for keyword in _PHASE_MACROS:
        item = group.first_item(keyword)
        if item is None:
            continue
        values.update(own_values(item))
        if (deeper := item.first_item(_DEEPER)) is not None:
            values.update(own_values(deeper))
        if keyword in _FRAME_TYPES:
            kind = kind or read_image_type(item, "FrameType")
        if keyword == "FrameContentSequence":
            index = _dimension_values(item, dimensions)
            if rest := tuple(value for name, value in index.items() if name.rstrip("0123456789") not in _PLACES):
                values["DimensionIndex"] = rest
            fields["stack"] = item.text("StackID") or f"{index.get('StackID', '')}"
    return _Group(fields, values, kind)


def _dimensions(header: Header) -> list[str]:
    """The attributes that the values of Dimension Index Values count (PS3.3 section C.7.6.17); "" for unknown ones."""
    names = []
    for item in header.items("DimensionIndexSequence"):
        raw = item.raw("DimensionIndexPointer")
        if raw is None or len(raw[1]) != 4:
            return []
        group, element = struct.unpack("<HH" if header.little_endian else ">HH", raw[1])
        names.append(keyword_for_tag(group << 16 | element) or "")
    return names


def _dimension_values(content: Header, dimensions: Sequence[str]) -> dict[str, float]:
    """By attribute; an unknown or repeated one by its place. An index that cannot be read counts as absent."""
    if tag_for_keyword("DimensionIndexValues") not in content.dataset:
        return {}
    try:
        found = content.integers("DimensionIndexValues")
    except UnsupportedImageError:
        return {}
    if len(found) != len(dimensions):
        return {}
    names = [
        name if name and name not in dimensions[:place] else f"{name}{place}" for place, name in enumerate(dimensions)
    ]
    return dict(zip(names, map(float, found), strict=True))


def _rescale(item: Header) -> tuple[float, float]:
    slope, intercept = item.decimals("RescaleSlope"), item.decimals("RescaleIntercept")
    if len(slope) > 1 or len(intercept) > 1 or (slope and slope[0] == 0):
        raise item.unusable("RescaleSlope", "or RescaleIntercept is 0 or has more than one value")
    return slope[0] if slope else 1.0, intercept[0] if intercept else 0.0
