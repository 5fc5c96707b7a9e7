"""Files in which every text, name, date and time is marked, and a search for the marks in whatever came out."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Iterator
from pathlib import Path

from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

MARK = "ZQX"
DATE, TIME, AGE = "17530914", "174301.271828", "173Y"
MARKS = (MARK, DATE, "1753-09-14", TIME, AGE, "<ZQX", "zqx")
# value representations of texts: their longest value (PS3.5 table 6.2-1)
_TEXTS = {"AE": 16, "CS": 16, "LO": 64, "LT": 100, "SH": 16, "ST": 100, "UC": 100, "UR": 100, "UT": 100}
_TIMES = {"DA": DATE, "TM": TIME, "DT": f"{DATE}{TIME}", "AS": AGE}
# texts that say how the pixels are to be read, and what a file is
_NEEDED = {
    *("SpecificCharacterSet", "Modality", "PhotometricInterpretation", "ImageType", "PixelPresentation"),
    *("PresentationLUTShape", "RescaleType", "ModalityLUTType", "VOILUTFunction", "LossyImageCompression"),
    *("VolumetricProperties", "VolumeBasedCalculationTechnique", "ComplexImageComponent", "AcquisitionContrast"),
    *("DimensionOrganizationType", "TypeOfData", "PixelDataProviderURL", "PixelOriginInterpretation"),
    # what makes an image a mosaic or a map of something else
    *("SegmentationType", "QuantityDefinitionSequence"),
}


def mark_texts(dataset: Dataset) -> int:
    """Give every text element of the dictionary a mark of its own, nested and private ones too; how many there are."""
    count = 0
    for tag, (vr, _multiplicity, _name, retired, keyword) in DicomDictionary.items():
        if keyword in _NEEDED or not keyword or retired or tag >> 16 in (0x0000, 0x0002, 0x0004, 0xFFFE):
            continue
        value = _value(vr, count)
        if value is not None and tag not in dataset:
            dataset.add(DataElement(tag, vr, value))
            count += 1
    nested = Dataset()
    nested.PatientName, nested.PatientID, nested.StudyDate = f"{MARK}N^1", f"{MARK}N2", DATE
    deeper = Dataset()
    deeper.OperatorsName = f"{MARK}N^3"
    nested.ReferencedStudySequence = [deeper]
    dataset.RequestAttributesSequence = [nested]
    dataset.OtherPatientIDsSequence = [nested]
    for group in (0x0011, 0x0019, 0x7FE1):
        block = dataset.private_block(group, f"{MARK} CREATOR", create=True)
        for offset, vr in enumerate(("LO", "PN", "DA", "UN", "OB", "UT")):
            binary = f"{MARK}P{offset}".encode().ljust(8)
            block.add_new(offset, vr, DATE if vr == "DA" else binary if vr in ("UN", "OB") else f"{MARK}P{offset}")
    assert keyword_for_tag(0x00100010) == "PatientName" and MARK in str(dataset.PatientName)
    return count


def _value(vr: str, number: int) -> str | None:
    if vr == "PN":
        return f"{MARK}{number}^GIVEN"
    if vr in _TIMES:
        return _TIMES[vr]
    return f"{MARK}{number}"[: _TEXTS[vr]] if vr in _TEXTS else None


def contents(path: Path) -> Iterator[bytes]:
    """The bytes of a file, and what they unpack to."""
    content = path.read_bytes()
    yield content
    if content[:2] == b"\x1f\x8b":
        yield gzip.decompress(content)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())


def marks_in(content: bytes) -> list[str]:
    """The marks that stand in some bytes, in one or two bytes a character."""
    codes = ("latin-1", "utf-16-le", "utf-16-be")
    return [mark for mark in MARKS if any(mark.encode(code) in content for code in codes)]


def marks_below(folder: Path) -> dict[str, list[str]]:
    """Each file with a mark in its bytes or its name."""
    found = {}
    for path in (path for path in folder.rglob("*") if path.is_file()):
        marks = marks_in(str(path.relative_to(folder)).encode())
        marks += [mark for content in contents(path) for mark in marks_in(content)]
        if marks:
            found[str(path.relative_to(folder))] = marks
    return found
