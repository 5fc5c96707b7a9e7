"""The attributes that tell the phases of a series apart, and how each is read from a classic or an enhanced image.

All of them are optional: one that cannot be parsed counts as absent. It then separates nothing, and slices that need
it are refused by name; no value is made up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import date

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from seqnorm_monai.images.dicom.errors import UnsupportedImageError
from seqnorm_monai.images.dicom.header import Header
from seqnorm_monai.images.machine_errors import raise_machine_error

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
    "KVP": ("kVp", ("KVP",)),
    "Component": ("component", ()),
    "Origin": ("pixels", ()),
    "ImageType": ("image type", ()),
    "CardiacPhase": ("cardiac phase", ("NominalPercentageOfCardiacPhase",)),
    "DimensionIndex": ("dimension index", ()),
}
# What cannot vary within one phase.
PHYSICAL = ("Component", "Origin", "EchoTime", "InversionTime", "BValue", "KVP")
# Times of one slice, not of a phase, in seconds: they order the phases but are shown nowhere.
ACQUISITION_CLOCKS = ("AcquisitionDateTime", "FrameAcquisitionDateTime", "FrameReferenceDateTime", "AcquisitionTime")
TIMES = (*ACQUISITION_CLOCKS, "ContentTime")
# In days: the date to which a time belongs, for series that go on past midnight.
DATES = {"AcquisitionTime": "AcquisitionDate", "ContentTime": "ContentDate"}
# How much there should be, see `phases.expected_counts`.
EXPECTED_COUNTS = ("InstanceNumber", "ImagesInAcquisition", "NumberOfTemporalPositions", "InConcatenationTotalNumber")
CLASSIC_KEYWORDS = (
    *(keyword for _, keywords in EXACT.values() for keyword in keywords),
    *TIMES,
    *DATES.values(),
    *EXPECTED_COUNTS,
    "ConcatenationUID",
    "ComplexImageComponent",
    "ImageType",
)
# private creator, its element, and the element that holds the b-value
_PRIVATE_B = (
    ("SIEMENS MR HEADER", 0x00190010, 0x0019100C),
    ("GEMS_PARM_01", 0x00430010, 0x00431039),
    ("Philips Imaging DD 001", 0x20010010, 0x20011003),
)
# where GE says what Image Type does not: 0 to 3 for magnitude, phase, real, imaginary
_PRIVATE_COMPONENT = ("GEMS_PARM_01", 0x00430010, 0x0043102F)
PRIVATE_TAGS = tuple(
    dict.fromkeys(tag for _, creator, element in (*_PRIVATE_B, _PRIVATE_COMPONENT) for tag in (creator, element))
)
# GE adds this to the b-value as a flag
_GE_FLAG = 1_000_000_000
_COMPONENTS = ("MAGNITUDE", "PHASE", "REAL", "IMAGINARY")
# Beyond these an element holds something else than one of these numbers.
_MAX_VALUES, _MAX_TEXT, _LARGEST = 16, 1024, 1e12
_TIME = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(\.\d{0,6})?)?)?")
# PS3.5 section 6.2, empty values of Image Type included
_CODE = re.compile(r"[A-Z0-9_ ]{0,16}")
_ZONE = re.compile(r"([+-])(\d\d)(\d\d)$")
# tag -> name, rank of the keyword among those of the name, keyword
_BY_TAG = {
    tag_for_keyword(keyword): (name, rank, keyword)
    for name, keywords in [*((name, EXACT[name][1]) for name in EXACT), *((name, (name,)) for name in EXPECTED_COUNTS)]
    for rank, keyword in enumerate(keywords)
}


def read_phase_values(headers: Sequence[Header], image_type: tuple[str, ...]) -> dict[str, Value]:
    """Values by name out of the first of `headers` that has each; names without a usable value are left out."""
    values: dict[str, Value] = {}
    for header in reversed(headers):
        values.update(own_values(header))
    return with_image_type(values, image_type)


def own_values(header: Header) -> dict[str, Value]:
    """What one data set or item itself says, without the kind of image."""
    values: dict[str, Value] = {}
    ranks: dict[str, int] = {}
    for tag in header.dataset.keys():  # noqa: SIM118  (a data set iterates over its converted elements)
        name, rank, keyword = _BY_TAG.get(int(tag), ("", 0, ""))
        if name and rank <= ranks.get(name, rank) and (found := _numbers(header, keyword)):
            values[name], ranks[name] = (found if len(found) > 1 else found[0]), rank
    if (component := header.text("ComplexImageComponent").upper()) in (*_COMPONENTS, "MIXED"):
        values["Component"] = component
    if uid := header.identifier("ConcatenationUID"):
        values["ConcatenationUID"] = uid
    values.update(_clocks(header))
    return values | _private_values(header.dataset, values)


def with_image_type(values: dict[str, Value], image_type: tuple[str, ...]) -> dict[str, Value]:
    """Add what Image Type says: itself, original or derived, and which part of the complex signal."""
    if not image_type:
        return values
    # what is no code may be anything and is not shown in a label
    codes = (part if _CODE.fullmatch(part) else "?" for part in image_type)
    found: dict[str, Value] = {"ImageType": "\\".join(codes)}
    if image_type[0] in ("ORIGINAL", "DERIVED"):
        found["Origin"] = image_type[0]
    letters = {name[0]: name for name in _COMPONENTS}
    parts = {letters.get(part, part) for part in image_type[2:]} & set(_COMPONENTS)
    if len(parts) == 1 and "Component" not in values:
        found["Component"] = parts.pop()
    return values | found


def _numbers(header: Header, keyword: str) -> tuple[float, ...]:
    """The numbers of an element in whatever representation it came; () if they cannot be read."""
    raw = header.raw(keyword)
    if raw is None or len(raw[1]) > _MAX_TEXT:
        return ()
    try:
        found = header.numbers(keyword)
    except UnsupportedImageError:
        found = _text_numbers(header.text(keyword))
    return found if len(found) <= _MAX_VALUES and all(abs(number) <= _LARGEST for number in found) else ()


def _text_numbers(text: str) -> tuple[float, ...]:
    """Of an element whose value representation is wrong: digits as text."""
    try:
        found = tuple(float(part) for part in text.split("\\"))
    except ValueError:
        return ()
    return found if all(math.isfinite(number) for number in found) else ()


def _clocks(header: Header) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for keyword in TIMES:
        text = header.text(keyword)
        seconds = _moment(text) if keyword.endswith("DateTime") else seconds_of_day(text)
        if seconds is not None:
            values[keyword] = seconds
    for keyword in DATES.values():
        if (days := _days(header.text(keyword).replace(".", ""))) is not None:
            values[keyword] = days
    return values


def seconds_of_day(text: str) -> float | None:
    """A time (TM), also in its old form with colons; None if it is none."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    hours, minutes, seconds = (int(part or 0) for part in match.groups()[:3])
    if hours > 23 or minutes > 59 or seconds > 60:
        return None
    return hours * 3600 + minutes * 60 + seconds + float(f"0{match[4] or '.0'}")


def _days(text: str) -> float | None:
    if len(text) != 8 or not text.isdigit():
        return None
    try:
        return float(date(int(text[:4]), int(text[4:6]), int(text[6:])).toordinal())
    except ValueError:
        return None


def _moment(text: str) -> float | None:
    """Seconds of a date and time (DT), in UTC where it names its zone."""
    if len(text) > _MAX_TEXT:
        return None
    zone = _ZONE.search(text)
    days = _days(text[:8])
    seconds = seconds_of_day(text[8 : zone.start()] if zone else text[8:])
    if days is None or seconds is None:
        return None
    offset = 0 if zone is None else (int(zone[2]) * 3600 + int(zone[3]) * 60) * (1 if zone[1] == "+" else -1)
    return days * 86400 + seconds - offset


def _private_values(dataset: Dataset, known: dict[str, Value]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    if "BValue" not in known:
        numbers = (_private_number(dataset, *place) for place in _PRIVATE_B)
        if (value := next((number for number in numbers if number is not None and number >= 0), None)) is not None:
            found["BValue"] = value % _GE_FLAG
    if "Component" not in known:
        value = _private_number(dataset, *_PRIVATE_COMPONENT)
        if value in range(len(_COMPONENTS)):
            found["Component"] = _COMPONENTS[int(value)]
    return found


def _private_number(dataset: Dataset, creator: str, creator_tag: int, tag: int) -> float | None:
    """The first number of a private element; None if there is none of this creator."""
    if creator_tag not in dataset or tag not in dataset:
        return None
    try:
        if str(dataset[creator_tag].value).strip() != creator:
            return None
        value = dataset[tag].value
        if isinstance(value, bytes):
            value = value.decode("ascii").split("\\")
        number = float(value if isinstance(value, int | float | str) else value[0])
    # a private element may hold anything
    except Exception as error:
        raise_machine_error(error)
        return None
    return number if abs(number) <= _LARGEST else None


def read_image_type(header: Header, keyword: str = "ImageType") -> tuple[str, ...]:
    """The values of Image Type or Frame Type in upper case."""
    text = header.text(keyword).upper()
    if len(text) > _MAX_TEXT:
        raise UnsupportedImageError(header.path, f"{keyword} is too long")
    return tuple(part.strip() for part in text.split("\\")) if text else ()
