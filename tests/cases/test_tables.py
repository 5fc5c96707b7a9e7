"""Tables of labels after public reports: read as they are meant, or refused with the true reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seqnorm_monai.commands import main
from tests.cases.reported import make


def prepare(folder: Path, name: str) -> tuple[int, dict[str, Any]]:
    """``seqnorm prepare csv`` for a table of a case: the exit code, and the datalist."""
    output = folder / f"{name}.json"
    command = ["prepare", "csv", "--labels", str(folder / f"{name}.csv"), "--images", str(folder / "img")]
    code = main([*command, "--output", str(output)])
    return code, json.loads(output.read_text()) if output.is_file() else {}


def labels(content: dict[str, Any]) -> dict[str, list[str]]:
    """The labels of each image, by its name."""
    splits = ("training", "validation", "test")
    return {Path(item["image"]).name: sorted(item["label"]) for split in splits for item in content[split]}


@pytest.mark.parametrize("name", ["semicolon", "tab", "space", "empty_column", "empty_columns", "class_space"])
def test_table_with_semicolons(name: str, tmp_path: Path) -> None:
    code, content = prepare(make("table_with_semicolons", tmp_path), name)
    assert code == 0
    assert sorted(content["class_names"]) == ["Effusion", "Mass"]
    assert labels(content) == {f"{k + 1}.dcm": ["Mass"] if k % 2 else ["Effusion"] for k in range(6)}


@pytest.mark.parametrize("name", ["vindr", "pandas"])
def test_no_finding_spelt_otherwise(name: str, tmp_path: Path) -> None:
    code, content = prepare(make("no_finding_spelt_otherwise", tmp_path), name)
    assert code == 0
    assert content["class_names"] == ["Effusion", "Mass"]
    own: list[list[str]] = [[], ["Mass"], ["Effusion", "Mass"]]
    assert labels(content) == {f"{k + 1}.dcm": own[k % 3] for k in range(6)}


def test_names_joined_by_a_semicolon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = prepare(make("no_finding_spelt_otherwise", tmp_path), "separator")
    assert code == 1
    assert "'Effusion;Mass' holds a semicolon; join names of classes by |" in capsys.readouterr().err


def test_chexpert_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make("chexpert_table", tmp_path)
    code, content = prepare(folder, "floats")
    assert code == 0
    assert labels(content) == {f"{k + 1}.dcm": ["Mass"] if k % 2 else ["Effusion"] for k in range(6)}
    code, _ = prepare(folder, "chexpert")
    assert code == 1
    error = capsys.readouterr().err
    assert "uncertain" in error or "not mentioned" in error
