"""The attributes of an image that selection rules may ask for, as they are meant, not as they are written."""

from __future__ import annotations

import re

from pydicom.charset import convert_encodings, decode_bytes, default_encoding
from pydicom.valuerep import TEXT_VR_DELIMS

from seqnorm_monai.images.dicom.header import Header
from seqnorm_monai.images.dicom.phase_attributes import read_image_type
from seqnorm_monai.images.dicom.silence import pydicom_silenced

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
    "ScanOptions",
)
# Specific Character Set says how they are written.
CHARACTER_SET = "SpecificCharacterSet"
# A switch of the character set within a text (ISO/IEC 2022, PS3.5 section 6.1.2.5).
_ESCAPE = re.compile(r"\x1b[ -/]+[0-~]")


def rule_attributes(header: Header) -> dict[str, object]:
    """Values for selection rules: numbers as numbers, several values as a list, text in the file's character set."""
    found: dict[str, object] = {
        "ImageType": list(read_image_type(header)),
        "SOPClassUID": header.identifier("SOPClassUID"),
    }
    encodings = _encodings(header)
    for keyword in RULE_KEYWORDS:
        raw = header.raw(keyword)
        if raw is None:
            continue
        try:
            text = _decoded(raw[1], encodings)
        # a text that is not in the character set which the file names
        except (UnicodeError, LookupError):
            text = header.text(keyword)
        values = [_number(part.strip()) if raw[0] in ("DS", "IS") else part.strip() for part in text.split("\\")]
        found[keyword] = values if len(values) > 1 else values[0]
    return found


def _decoded(data: bytes, encodings: list[str]) -> str:
    """Text of these character sets; without any, UTF-8 if it is that. Raises UnicodeError or LookupError."""
    if not encodings:
        try:
            return data.decode("utf-8").strip(" \0")
        except UnicodeDecodeError:
            encodings = ["latin-1"]
    with pydicom_silenced():
        text = decode_bytes(data, encodings, TEXT_VR_DELIMS)
    # pydicom leaves some of them in, as that of GB 2312
    return _ESCAPE.sub("", text).strip(" \0")


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _encodings(header: Header) -> list[str]:
    """Those that Specific Character Set names; [] where the file has none, or none that is known."""
    stated = header.text(CHARACTER_SET)
    if not stated:
        return []
    names = stated.split("\\")
    try:
        with pydicom_silenced():
            found = list(convert_encodings(names))
    except (LookupError, ValueError):
        return []
    # the default is pydicom's answer to names that it does not know, too
    return found if set(found) != {default_encoding} else []
