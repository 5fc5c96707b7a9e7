"""The attributes that tell the phases of a series apart, and how each is read from a classic or an enhanced image."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydicom.dataset import Dataset

from seqnorm_monai.dicom.errors import UnsupportedImageError
from seqnorm_monai.dicom.header import Header

Value = float | str | tuple[float, ...] | None

# In the order in which they are tried: name, what it is called in a label, keywords of the classic and enhanced forms.
EXACT: dict[str, tuple[str, tuple[str, ...]]] = {
    "TemporalPosition": ("temporal position", ("TemporalPositionIdentifier", "TemporalPositionIndex")),
    "AcquisitionNumber": ("acquisition", ("AcquisitionNumber", "FrameAcquisitionNumber")),
    "TriggerTime": ("trigger time", ("TriggerTime", "NominalCardiacTriggerDelayTime")),
    "FrameReferenceTime": ("frame reference time", ("FrameReferenceTime",)),
    "InversionTime": ("inversion time", ("InversionTime", "InversionTimes")),
    "FlipAngle": ("flip angle", ("FlipAngle",)),
    "EchoTime": ("echo time", ("EchoTime", "EffectiveEchoTime")),
    "EchoNumber": ("echo", ("EchoNumbers",)),
    "BValue": ("b-value", ("DiffusionBValue",)),
    "GradientDirection": ("gradient direction", ("DiffusionGradientOrientation",)),
    "ImageType": ("image type", ()),
    "CardiacPhase": ("cardiac phase", ("NominalPercentageOfCardiacPhase",)),
}
# Times of one slice, not of a phase: they order the phases but are shown nowhere.
TIMES = ("AcquisitionDateTime", "FrameAcquisitionDateTime", "AcquisitionTime", "ContentTime")
CLASSIC_KEYWORDS = (*(keyword for _, keywords in EXACT.values() for keyword in keywords), *TIMES, "ImageType")
# private creator, its element, and the element that holds the b-value
_PRIVATE_B = (
    ("SIEMENS MR HEADER", 0x00190010, 0x0019100C),
    ("GEMS_PARM_01", 0x00430010, 0x00431039),
    ("Philips Imaging DD 001", 0x20010010, 0x20011003),
)
PRIVATE_TAGS = tuple(tag for _, creator, element in _PRIVATE_B for tag in (creator, element))
# GE adds this to the b-value as a flag
_GE_FLAG = 1_000_000_000


def read_phase_values(headers: Sequence[Header], image_type: tuple[str, ...]) -> dict[str, Value]:
    """Values by name out of the first of `headers` that has each; names without a value are left out."""
    values: dict[str, Value] = {}
    for name, (_, keywords) in EXACT.items():
        for header in headers:
            found = next((numbers for keyword in keywords if (numbers := header.numbers(keyword))), ())
            if found and name not in values:
                rounded = tuple(round(number, 4) for number in found)
                values[name] = rounded if len(rounded) > 1 else rounded[0]
    if "BValue" not in values and (private := _private_b(headers[0].dataset)) is not None:
        values["BValue"] = private
    if image_type:
        values["ImageType"] = "\\".join(image_type)
    for keyword in TIMES:
        text = next((text for header in headers if (text := header.text(keyword))), "")
        if text.replace(".", "").isdigit():
            values[keyword] = float(text)
    return values


def _private_b(dataset: Dataset) -> float | None:
    for creator, creator_tag, tag in _PRIVATE_B:
        if creator_tag not in dataset or tag not in dataset:
            continue
        try:
            if str(dataset[creator_tag].value).strip() != creator:
                continue
            value = dataset[tag].value
            if isinstance(value, bytes):
                value = value.decode("ascii").split("\\")
            first = value if isinstance(value, int | float | str) else value[0]
            number = float(first)
        # a private element may hold anything
        except Exception:
            continue
        if math.isfinite(number) and number >= 0:
            return round(number % _GE_FLAG, 4)
    return None


def read_image_type(header: Header, keyword: str = "ImageType") -> tuple[str, ...]:
    """The values of Image Type or Frame Type in upper case."""
    text = header.text(keyword).upper()
    if len(text) > 1024:
        raise UnsupportedImageError(header.path, f"{keyword} is too long")
    return tuple(part.strip() for part in text.split("\\")) if text else ()
