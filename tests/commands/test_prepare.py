"""``seqnorm prepare csv``: a table and a folder to a datalist that training reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqnorm_monai.commands import main
from seqnorm_monai.data import load_class_names, load_datalist


def user_folder(folder: Path, rows: list[str]) -> list[str]:
    """A table in `folder`, with an image file for each row; the command that reads it."""
    (folder / "labels.csv").write_text("\n".join(rows))
    for row in rows[1:]:
        (folder / row.split(",")[0]).write_bytes(b"")
    return [
        *("prepare", "csv", "--labels", str(folder / "labels.csv")),
        *("--images", str(folder), "--output", str(folder / "datalist.json")),
    ]


LABELS = ("Mass", "No Finding", "Effusion|Mass")
ROWS = ["image,patient,labels", *(f"{number}.dcm,{number // 2},{LABELS[number // 2 % 3]}" for number in range(30))]


def test_writes_what_training_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(user_folder(tmp_path, ROWS)) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[-1] == "classes: Effusion, Mass"
    items = {
        split: load_datalist(tmp_path / "datalist.json", split=split, class_names=["Effusion", "Mass"])
        for split in ("training", "validation", "test")
    }
    assert sum(map(len, items.values())) == 30
    for line, (split, found) in zip(shown, items.items(), strict=False):
        assert line == f"{split}: {len(found)} images of {len(found) // 2} patients"


def test_classes_and_seed_are_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = user_folder(tmp_path, ROWS)
    texts = []
    for seed in ("1", "1", "2"):
        assert main([*command, "--classes", "Mass", "Effusion", "--seed", seed]) == 0
        texts.append((tmp_path / "datalist.json").read_text())
    assert texts[0] == texts[1] != texts[2]
    assert capsys.readouterr().out.splitlines()[-1] == "classes: Mass, Effusion"


def test_refusal_is_one_line_and_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = user_folder(tmp_path, ROWS)
    (tmp_path / "3.dcm").unlink()
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "3.dcm" in error
    assert "Traceback" not in error
    assert not (tmp_path / "datalist.json").exists()


def test_output_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = user_folder(tmp_path, ROWS)
    (tmp_path / "datalist.json").mkdir()
    assert main(command) == 1
    assert f"{tmp_path / 'datalist.json'}: cannot be written" in capsys.readouterr().err


def test_a_table_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = user_folder(tmp_path, ROWS)
    (tmp_path / "labels.csv").unlink()
    assert main(command) == 1
    assert "labels.csv" in capsys.readouterr().err


def test_datalist_holds_its_classes(tmp_path: Path) -> None:
    command = user_folder(tmp_path, ROWS)
    assert main(command) == 0
    assert load_class_names(tmp_path / "datalist.json") == ["Effusion", "Mass"]
    assert main([*command, "--classes", "Mass", "Effusion", "Gout"]) == 0
    assert load_class_names(tmp_path / "datalist.json") == ["Mass", "Effusion", "Gout"]


def test_a_table_without_any_label_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["image,patient,labels", *(f"{number}.dcm,{number},No Finding" for number in range(30))]
    assert main(user_folder(tmp_path, rows)) == 1
    assert "labels.csv" in capsys.readouterr().err
