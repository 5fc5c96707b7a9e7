"""Texts that people wrote: on the screen for who writes rules, and nowhere else."""

from __future__ import annotations

import logging
from pathlib import Path

import nibabel
import numpy as np
import pytest

from seqnorm_monai.images.__main__ import main
from tests.makers.studies import write_phases

MARK = "MARKED"
TEXTS = {"SeriesDescription": f"t2 {MARK}1 tra", "ProtocolName": f"{MARK}2^head"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_phases(tmp_path / "in" / "a", 2, SeriesNumber=3, **TEXTS)
    write_phases(tmp_path / "in" / "b", SeriesNumber=5, SeriesInstanceUID="1.2.3.23")
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5), np.uint8), np.eye(4)), tmp_path / "in" / "c.nii")
    return tmp_path / "in"


def test_description_and_protocol(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (heading,) = (line for line in lines if "protocol" in line)
    assert heading.index("description") < heading.index("protocol") < heading.index("files")
    rows = [line for line in lines if "MARKED1" in line]
    assert len(rows) == 2 and all(row.index("t2 MARKED1 tra") == heading.index("description") for row in rows)
    assert all(row.index("MARKED2^head") == heading.index("protocol") for row in rows)
    assert MARK not in next(line for line in lines if " 5 " in line.split("MR")[0])


def test_without_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder), "--no-text"]) == 0
    shown = capsys.readouterr().out
    assert MARK not in shown and "description" not in shown and "6 x 5 x 4" in shown.replace("5 x 6", "6 x 5")


def test_no_file_and_no_log_has_them(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    out = tmp_path / "out"
    out.mkdir()
    assert main([str(folder), "--json", str(out / "content.json"), "--nifti", str(out), "--check"]) == 0
    written = [path for path in out.rglob("*") if path.is_file()]
    assert len(written) == 5
    for path in written:
        data = path.read_bytes() if path.suffix != ".gz" else bytes(nibabel.load(path).header.binaryblock)
        assert MARK.encode() not in data and MARK not in path.name
    assert MARK not in caplog.text and MARK not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\x1b[31mc", r"a\nb\x1b[31mc"),
        ("x" * 90, "x" * 64 + " ..."),
        ("one\\two", "one\\two"),
    ],
    ids=["control characters", "long", "two values"],
)
@pytest.mark.usefixtures("any_value")
def test_odd_texts(text: str, shown: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_phases(tmp_path, SeriesDescription=text)
    assert main([str(tmp_path)]) == 0
    assert f" {shown} " in capsys.readouterr().out
