"""The attributes of an image that selection rules may ask for, as they are meant, not as they are written."""

from __future__ import annotations

from pydicom.charset import convert_encodings, decode_bytes
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
)
# Specific Character Set says how they are written.
CHARACTER_SET = "SpecificCharacterSet"


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
            with pydicom_silenced():
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
    names = header.text(CHARACTER_SET).split("\\")
    try:
        with pydicom_silenced():
            return list(convert_encodings(names))
    except (LookupError, ValueError):
        return ["latin-1"]
