"""Texts that rules ask for, in whatever character set they are written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from seqnorm_monai.images.dicom.open import read_header
from seqnorm_monai.images.dicom.rule_attributes import rule_attributes
from seqnorm_monai.images.rules import parse_rules, select_series
from tests.makers.dicom_files import ramp

Make = Callable[..., Path]


def attributes_of(make: Make, character_set: bytes, text: bytes) -> dict[str, object]:
    """Of a file with these bytes as SeriesDescription and, unless empty, as SpecificCharacterSet."""
    text += b" " * (len(text) % 2)
    path = make(ramp(12), SeriesDescription="Y" * len(text))
    data = path.read_bytes().replace(b"Y" * len(text), text)
    start = data.index(b"\x08\0\x16\0UI")
    if character_set:
        character_set += b" " * (len(character_set) % 2)
        element = b"\x08\0\x05\0CS" + len(character_set).to_bytes(2, "little") + character_set
        data = data[:start] + element + data[start:]
    path.write_bytes(data)
    return rule_attributes(read_header(path, ["SpecificCharacterSet", "SeriesDescription"]))


JAPANESE = "胸部 正面".encode("iso2022_jp")


@pytest.mark.parametrize(
    ("character_set", "text", "expected"),
    [
        (b"\\ISO 2022 IR 87", JAPANESE, "胸部 正面"),
        (b"ISO 2022 IR 6\\ISO 2022 IR 87", JAPANESE, "胸部 正面"),
        (b" \\ISO 2022 IR 87", JAPANESE, "胸部 正面"),
        (b"\\ISO 2022 IR 87\\ISO 2022 IR 159", JAPANESE, "胸部 正面"),
        (b"\\ISO 2022 IR 149", b"\x1b$)C" + "흉부".encode("euc_kr"), "흉부"),
        (b"\\ISO 2022 IR 58", b"\x1b$)A" + "胸部".encode("gb2312"), "胸部"),
        (b"\\ISO 2022 IR 100", b"\x1b-ASch\xe4del", "Schädel"),
        (b"ISO 2022 IR 6\\ISO 2022 IR 144", b"\x1b-L" + "грудь".encode("iso8859_5"), "грудь"),
        (b"GB18030", "胸部 誠".encode("gb18030"), "胸部 誠"),
        (b"ISO_IR 192", "胸部".encode(), "胸部"),
        (b"", "Schädel".encode(), "Schädel"),
        (b"", "Schädel".encode("latin-1"), "Schädel"),
        (b"", b"chest", "chest"),
        (b"NO SUCH SET", "Schädel".encode(), "Schädel"),
    ],
)
@pytest.mark.usefixtures("any_value")
def test_character_sets(make_dicom: Make, character_set: bytes, text: bytes, expected: str) -> None:
    attributes = attributes_of(make_dicom, character_set, text)
    assert attributes["SeriesDescription"] == expected
    rules = parse_rules({"selections": [{"conditions": {"SeriesDescription": f"^{expected[:3]}"}}]})
    assert select_series([attributes], rules, all_matched=True)


@pytest.mark.parametrize("written", [b"\\ISO 2022 IR 87", b"ISO 2022 IR 6\\ISO 2022 IR 87"])
def test_rules_read_text_of_several_character_sets(make_dicom: Make, written: bytes) -> None:
    placeholder = "X" * (len(written) + len(written) % 2)
    path = make_dicom(ramp(12), SeriesDescription="Y" * 24)
    data = path.read_bytes().replace(b"Y" * 24, "胸部 正面".encode("iso2022_jp").ljust(24))
    start = data.index(b"\x08\0\x16\0UI")
    element = b"\x08\0\x05\0CS" + len(placeholder).to_bytes(2, "little") + written.ljust(len(placeholder))
    path.write_bytes(data[:start] + element + data[start:])
    attributes = rule_attributes(read_header(path, ["SpecificCharacterSet", "SeriesDescription"]))
    assert attributes["SeriesDescription"] == "胸部 正面"
    rules = parse_rules({"selections": [{"conditions": {"SeriesDescription": "胸部"}}]})
    assert select_series([attributes], rules, all_matched=True)
