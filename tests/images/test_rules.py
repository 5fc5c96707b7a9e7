"""Rules that choose series, with the meaning of MONAI Deploy's series selector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seqnorm_monai.images.rules import SelectionRuleError, parse_rules, read_rules, select_series

SERIES: list[dict[str, object]] = [
    {"StudyInstanceUID": "1", "Modality": "MR", "SeriesDescription": "Localizer", "SeriesNumber": 0},
    {
        "StudyInstanceUID": "1",
        "Modality": "CT",
        "SeriesDescription": "ABD C+ (portal)",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "SliceThickness": 5.0,
        "SeriesNumber": 3,
        "PixelSpacing": [0.5, 0.75],
    },
    {
        "StudyInstanceUID": "1",
        "Modality": "ct",
        "SeriesDescription": "",
        "ImageType": "DERIVED",
        "SliceThickness": 2.5,
        "SeriesNumber": 11,
    },
    {"StudyInstanceUID": "2", "Modality": "CT", "StudyDescription": "spleen follow-up", "SliceThickness": "3"},
]


def chosen(conditions: dict[str, Any], *, all_matched: bool = True) -> list[int]:
    rules = {"selections": [{"name": "x", "conditions": conditions}]}
    return [one.index for one in select_series(SERIES, rules, all_matched=all_matched)]


@pytest.mark.parametrize(
    ("conditions", "indices"),
    [
        ({"Modality": "CT"}, [1, 2, 3]),
        ({"Modality": "(?i)ct"}, [1, 2, 3]),
        ({"Modality": "^C$"}, []),
        ({"Modality": "C"}, [1, 2, 3]),
        ({"SeriesDescription": "portal"}, [1]),
        ({"SeriesDescription": "(.*?)"}, [0, 1]),
        ({"StudyDescription": "(?i)^Spleen"}, [3]),
        ({"StudyDescription": "^follow"}, []),
        ({"StudyDescription": None, "Modality": "MR"}, [0]),
        ({"StudyDescription": "", "Modality": "MR"}, [0]),
        ({"ImageType": [], "Modality": "MR"}, [0]),
        ({"ImageType": ["PRIMARY", "ORIGINAL"]}, [1]),
        ({"ImageType": ["primary", "AXI.*"]}, [1]),
        ({"ImageType": ["PRIMARY", "DERIVED"]}, []),
        ({"ImageType": ["DERIVED"]}, [2]),
        ({"ImageType": "AXIAL"}, [1]),
        ({"SliceThickness": [3, 5]}, [1]),
        ({"SliceThickness": [2.5, 5]}, [1, 2]),
        ({"SliceThickness": 2.5}, [2]),
        ({"SliceThickness": 3}, [3]),
        ({"SliceThickness": "5|2.5"}, [1, 2]),
        ({"SliceThickness": r"5\.0"}, [1]),
        ({"SliceThickness": "2"}, []),
        ({"SeriesNumber": 0}, [0]),
        ({"SeriesNumber": "1"}, []),
        ({"SeriesNumber": "1+"}, [2]),
        ({"PixelSpacing": [0.75]}, [1]),
        ({"PixelSpacing": 0.6}, []),
        ({"Modality": "CT", "SliceThickness": [0, 3]}, [2]),
        ({"BodyPartExamined": "(.*?)"}, []),
        ({}, []),
    ],
)
def test_conditions(conditions: dict[str, Any], indices: list[int]) -> None:
    assert chosen(conditions) == indices


def test_first_match_in_every_study() -> None:
    assert chosen({"Modality": "CT"}, all_matched=False) == [1, 3]


def test_several_selections_in_the_order_of_the_rules() -> None:
    rules = {
        "selections": [
            {"name": " thin ", "conditions": {"SliceThickness": [0, 3]}},
            {"conditions": {"Modality": "CT"}},
            {"name": "nothing"},
        ]
    }
    found = [(one.index, one.selection) for one in select_series(SERIES, rules, all_matched=True)]
    assert found == [(2, "thin"), (1, ""), (2, ""), (3, "")]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([], 'single key "selections"'),
        ({}, 'single key "selections"'),
        ({"selections": [], "all": 1}, 'single key "selections"'),
        ({"selections": []}, "at least one selection"),
        ({"selections": {"name": "x"}}, "at least one selection"),
        ({"selections": [3]}, "selection 1 must be an object"),
        ({"selections": [{"name": "x"}, {"condition": {}}]}, "selection 2: unknown key 'condition'"),
        ({"selections": [{"name": 3}]}, 'selection 1: "name" must be text'),
        ({"selections": [{"name": "x", "conditions": []}]}, r"selection 1 \('x'\): \"conditions\" must be an object"),
        ({"selections": [{"name": "x", "conditions": {"Modalty": "CT"}}]}, "'x'.*'Modalty': no such DICOM keyword"),
        ({"selections": [{"conditions": {"Modality": "(CT"}}]}, "condition 'Modality': invalid regular expression"),
        ({"selections": [{"conditions": {"Modality": ["CT", "("]}}]}, "'Modality': invalid regular expression"),
        ({"selections": [{"conditions": {"Modality": True}}]}, "'Modality': text, a number, or a list"),
        ({"selections": [{"conditions": {"Modality": {"a": 1}}}]}, "'Modality': text, a number, or a list"),
        ({"selections": [{"conditions": {"Modality": [["CT"]]}}]}, "'Modality': text, a number, or a list"),
        ({"selections": [{"conditions": {"SliceThickness": float("nan")}}]}, "text, a number, or a list"),
        ({"selections": [{"conditions": {"SliceThickness": [5, 3]}}]}, "a range from 5 to 3 holds nothing"),
    ],
)
def test_bad_rules_are_named(rules: object, message: str) -> None:
    with pytest.raises(SelectionRuleError, match=message):
        parse_rules(rules)


def test_rules_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps({"selections": [{"name": "CT", "conditions": {"Modality": "CT"}}]}))
    (selection,) = read_rules(path)
    assert (selection.name, dict(selection.conditions)) == ("CT", {"Modality": "CT"})
    for text, message in (
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"selections": [{"conditions": {"Modality": "CT", "Modality": "MR"}}]}', "'Modality' stands twice"),
        ("{}", "single key"),
    ):
        path.write_text(text)
        with pytest.raises(SelectionRuleError, match=f"rules.json: .*{message}"):
            read_rules(path)
    with pytest.raises(SelectionRuleError, match="cannot be read"):
        read_rules(tmp_path / "absent.json")
