"""Choose series by rules in the grammar of MONAI Deploy's DICOMSeriesSelectorOperator.

``{"selections": [{"name": "CT", "conditions": {"Modality": "(?i)CT", "ImageType": ["PRIMARY", "ORIGINAL"],
"SliceThickness": [3, 5]}}]}``. All conditions of a selection must hold. What a condition means follows the value that
the series has under its DICOM keyword, as in the operator of monai-deploy-app-sdk:

* text: equal without regard to case, or the rule as a regular expression found anywhere in it (``re.search``, case
  ignored);
* a number: equal; within a list of two numbers, ends included, the smaller first; or text, a regular expression for the
  whole number (``re.fullmatch``);
* a list: each element of the rule (a single value is one) is found in some element, by the rules for text.

A condition of null or empty text or list is no condition, and a selection without conditions selects nothing. A series
that lacks the keyword does not match. Where the operator fails (a list for a single text) or takes 0 for "absent", the
value is compared.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

from pydicom.datadict import tag_for_keyword

Scalar = str | int | float
Condition = Scalar | tuple[Scalar, ...]


class SelectionRuleError(ValueError):
    """Rules that cannot be applied; the text names the selection and the condition."""


@dataclass(frozen=True)
class Selection:
    """One checked selection: DICOM keyword -> what its value must match."""

    name: str
    conditions: Mapping[str, Condition]

    def matches(self, series: Mapping[str, object]) -> bool:
        return all(_matches(condition, series.get(keyword)) for keyword, condition in self.conditions.items())


@dataclass(frozen=True)
class Selected:
    """A series by its position in the sequence that was asked about, and the selection that chose it."""

    index: int
    selection: str


def read_rules(source: str | os.PathLike[str]) -> list[Selection]:
    """The rules of a JSON file. Raises SelectionRuleError."""
    try:
        text = Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SelectionRuleError(f"{source}: cannot be read ({type(error).__name__})") from None
    try:
        return parse_rules(json.loads(text, object_pairs_hook=_without_doubles))
    except (json.JSONDecodeError, RecursionError) as error:
        raise SelectionRuleError(f"{source}: not JSON ({error})") from None
    except SelectionRuleError as error:
        raise SelectionRuleError(f"{source}: {error}") from None


def parse_rules(rules: object) -> list[Selection]:
    """Check rules (what `json.loads` gives). Raises SelectionRuleError for anything that the grammar does not have."""
    if not isinstance(rules, Mapping) or set(rules) != {"selections"}:
        raise SelectionRuleError('rules must be an object with the single key "selections"')
    selections = rules["selections"]
    if not isinstance(selections, list) or not selections:
        raise SelectionRuleError('"selections" must be a list of at least one selection')
    return [_selection(position, selection) for position, selection in enumerate(selections, 1)]


def select_series(
    series: Sequence[Mapping[str, object]], rules: Iterable[Selection] | Mapping[str, object], *, all_matched: bool
) -> list[Selected]:
    """The series that the rules choose, study by study, in each by selection, in each in the given order.

    `series`: DICOM keyword -> value (text, number, or a list of these); those with one StudyInstanceUID are a study.
    As in the operator, every selection chooses within every study its first match, or all of them with `all_matched`;
    a series may be chosen by several selections.

    Raises SelectionRuleError.
    """
    selections = parse_rules(rules) if isinstance(rules, Mapping) else list(rules)
    studies: dict[object, list[int]] = {}
    for index, attributes in enumerate(series):
        studies.setdefault(attributes.get("StudyInstanceUID", ""), []).append(index)
    chosen = []
    for indices in studies.values():
        for selection in selections:
            found = [index for index in indices if selection.conditions and selection.matches(series[index])]
            chosen += [Selected(index, selection.name) for index in (found if all_matched else found[:1])]
    return chosen


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = [key for key, _ in pairs]
    doubles = sorted({key for key in keys if keys.count(key) > 1})
    if doubles:
        raise SelectionRuleError(f"the key {doubles[0]!r} stands twice in one object")
    return dict(pairs)


def _selection(position: int, selection: object) -> Selection:
    where = f"selection {position}"
    if not isinstance(selection, Mapping):
        raise SelectionRuleError(f"{where} must be an object")
    unknown = sorted(set(selection) - {"name", "conditions"})
    if unknown:
        raise SelectionRuleError(f'{where}: unknown key {unknown[0]!r}; "name" and "conditions" are known')
    name = selection.get("name", "")
    if not isinstance(name, str):
        raise SelectionRuleError(f'{where}: "name" must be text')
    where = f"{where} ({name.strip()!r})"
    conditions = selection.get("conditions")
    if conditions is None:
        conditions = {}
    if not isinstance(conditions, Mapping):
        raise SelectionRuleError(f'{where}: "conditions" must be an object')
    checked = {keyword: _condition(where, keyword, value) for keyword, value in conditions.items()}
    return Selection(name.strip(), {keyword: value for keyword, value in checked.items() if value not in ("", ())})


def _condition(where: str, keyword: str, value: object) -> Condition:
    where = f"{where}, condition {keyword!r}"
    if tag_for_keyword(keyword) is None:
        raise SelectionRuleError(f"{where}: no such DICOM keyword")
    if value is None:
        return ""
    if isinstance(value, list):
        condition = tuple(_scalar(where, element) for element in value)
        if _is_range(condition) and condition[0] > condition[1]:
            ends = f"{condition[0]:g} to {condition[1]:g}"
            raise SelectionRuleError(f"{where}: a range from {ends} holds nothing, put the smaller end first")
        return condition
    return _scalar(where, value)


def _scalar(where: str, value: object) -> Scalar:
    if isinstance(value, str):
        try:
            re.compile(value, re.IGNORECASE)
        except (re.error, RecursionError, OverflowError) as error:
            raise SelectionRuleError(f"{where}: invalid regular expression ({error})") from None
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise SelectionRuleError(f"{where}: text, a number, or a list of these is needed, not {value!r}")
    return value


def _matches(condition: Condition, value: object) -> bool:
    if value is None or value == "" or value == [] or value == ():
        return False
    if isinstance(value, Real):
        return _matches_number(condition, float(value))
    if isinstance(value, str):
        wanted = condition if isinstance(condition, tuple) else (condition,)
        return all(_matches_text(element, value) for element in wanted)
    if isinstance(value, Iterable):
        wanted = condition if isinstance(condition, tuple) else (condition,)
        elements = list(value)
        return all(any(_matches_element(element, one) for one in elements) for element in wanted)
    return _matches_text(condition, str(value)) if not isinstance(condition, tuple) else False


def _is_range(condition: tuple[Scalar, ...]) -> bool:
    """Whether a list of a rule means, for a number, all between its two ends."""
    return len(condition) == 2 and not any(isinstance(bound, str) for bound in condition)


def _matches_number(condition: Condition, value: float) -> bool:
    if isinstance(condition, tuple):
        if not _is_range(condition):
            return any(_matches_number(element, value) for element in condition)
        return condition[0] <= value <= condition[1]
    if isinstance(condition, str):
        # The text of a decimal string may or may not have had its ".0".
        texts = {repr(value), f"{value:g}"} | ({str(int(value))} if value.is_integer() else set())
        return any(re.fullmatch(condition, text) for text in texts)
    return value == condition


def _matches_element(condition: Scalar, value: object) -> bool:
    return _matches_number(condition, float(value)) if isinstance(value, Real) else _matches_text(condition, str(value))


def _matches_text(condition: Scalar, value: str) -> bool:
    if isinstance(condition, str):
        return condition.casefold() == value.casefold() or re.search(condition, value, re.IGNORECASE) is not None
    try:
        return float(value) == condition
    except ValueError:
        return False
