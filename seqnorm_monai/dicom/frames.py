"""The functional groups of an enhanced multi-frame image (PS3.3 section C.7.6.16)."""

from __future__ import annotations

from typing import Any

from seqnorm_monai.dicom.errors import UnsupportedImageError
from seqnorm_monai.dicom.header import Header
from seqnorm_monai.dicom.phase_values import read_image_type, read_phase_values

FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
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
)


def read_frame_groups(header: Header, frames: int, image_type: tuple[str, ...]) -> list[dict[str, Any]] | None:
    """For each frame the fields of a `Plane` that the functional groups state; None for an image without them.

    A macro is taken from the frame's own item, else from the shared one. Raises UnsupportedImageError when the
    number of items is not that of the frames, or values are not usable.
    """
    per_frame = header.items("PerFrameFunctionalGroupsSequence")
    shared = header.first_item("SharedFunctionalGroupsSequence")
    if not per_frame and shared is None:
        return None
    if per_frame and len(per_frame) != frames:
        raise UnsupportedImageError(
            header.path, f"{len(per_frame)} functional groups for {frames} frames (PerFrameFunctionalGroupsSequence)"
        )
    groups = per_frame or [shared] * frames
    return [_one_frame(header, [own, shared] if shared else [own], image_type) for own in groups if own is not None]


def _one_frame(header: Header, groups: list[Header], image_type: tuple[str, ...]) -> dict[str, Any]:
    def macro(keyword: str) -> Header | None:
        return next((item for group in groups if (item := group.first_item(keyword)) is not None), None)

    measures, content = macro("PixelMeasuresSequence"), macro("FrameContentSequence")
    spacing = () if measures is None else measures.decimals("PixelSpacing")
    thickness = () if measures is None else measures.decimals("SliceThickness")
    kind = next((item for keyword in _FRAME_TYPES if (item := macro(keyword)) is not None), None)
    frame_type = (read_image_type(kind, "FrameType") if kind is not None else ()) or image_type
    sources = [item for keyword in _PHASE_MACROS if (item := macro(keyword)) is not None]
    # the direction of a diffusion gradient lies one sequence deeper
    sources += [deeper for item in sources if (deeper := item.first_item("DiffusionGradientDirectionSequence"))]
    return {
        "position": _vector(macro("PlanePositionSequence"), "ImagePositionPatient", 3),
        "orientation": _vector(macro("PlaneOrientationSequence"), "ImageOrientationPatient", 6),
        "spacing": (spacing[0], spacing[1]) if len(spacing) == 2 and min(spacing) > 0 else None,
        "thickness": thickness[0] if len(thickness) == 1 and thickness[0] > 0 else None,
        "stack": "" if content is None else content.text("StackID"),
        "image_type": frame_type,
        "phase": read_phase_values([*sources, header], frame_type),
        "rescale": _rescale(macro("PixelValueTransformationSequence")),
    }


def _vector(item: Header | None, keyword: str, count: int) -> tuple[float, ...] | None:
    values = () if item is None else item.decimals(keyword)
    if item is not None and values and len(values) != count:
        raise item.unusable(keyword, f"does not have {count} values")
    return values or None


def _rescale(item: Header | None) -> tuple[float, float] | None:
    if item is None:
        return None
    slope, intercept = item.decimals("RescaleSlope"), item.decimals("RescaleIntercept")
    if len(slope) > 1 or len(intercept) > 1 or (slope and slope[0] == 0):
        raise item.unusable("RescaleSlope", "or RescaleIntercept is 0 or has more than one value")
    return slope[0] if slope else 1.0, intercept[0] if intercept else 0.0
