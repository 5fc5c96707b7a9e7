"""The benchmark of reading runs on what it generates, and its table holds the rows of its file."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from seqnorm_monai.benchmarking.reading import DISK, OURS, READERS, ReadingCase, markdown_table, measure
from seqnorm_monai.benchmarking.study_samples import SYNTAXES, write_radiographs, write_volume
from seqnorm_monai.data import LoadRadiographd, LoadStudyd
from tests.makers.bundles import ROOT


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_samples_are_what_they_say(tmp_path: Path, syntax: str) -> None:
    """The same values in every transfer syntax, read by our transforms."""
    write_volume(tmp_path / "ct", syntax, slices=3, size=64)
    volume = LoadStudyd("image")({"image": str(tmp_path / "ct")})["image"]
    assert volume.shape == (1, 64, 64, 3)
    path, other = write_radiographs(tmp_path / "dx", syntax, count=2, size=64)
    assert dcmread(path).file_meta.TransferSyntaxUID == SYNTAXES[syntax]
    assert dcmread(path).SOPInstanceUID != dcmread(other).SOPInstanceUID
    image = LoadRadiographd("image")({"image": str(path)})["image"]
    np.testing.assert_array_equal(image[0].numpy() - 1024, volume[0, :, :, 0].numpy())


def test_a_row_for_every_reader(tmp_path: Path) -> None:
    pytest.importorskip("itk", reason="ITKReader needs itk")
    paths = write_radiographs(tmp_path, "native", count=2, size=32)
    rows = measure(ReadingCase("small", paths, LoadRadiographd("image")), repeats=2)
    found = {row["reader"]: row for row in rows}
    assert float(found[OURS]["times_ours"]) == 1
    assert [found[name]["equal"] for name in READERS] == ["True", "True"]
    assert all(float(row["seconds_median"]) > 0 and row["repeats"] == "2" for row in rows)
    lines = markdown_table(rows).splitlines()
    assert len(lines) == 3
    assert lines[2].startswith("| small | ")
    assert f"{float(found[DISK]['times_ours']):.3g}" in lines[2]


@pytest.mark.slow
def test_the_script_writes_its_file(tmp_path: Path) -> None:
    pytest.importorskip("itk", reason="ITKReader needs itk")
    table = tmp_path / "reading.csv"
    options = ["--count", "2", "--size", "32", "--slices", "2", "--syntaxes", "native", "--repeats", "1"]
    command = [sys.executable, "-W", "ignore", "scripts/benchmark_reading.py", *options, "--output", str(table)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len({row["case"] for row in rows}) == 3
    assert all(row["hardware"] and row["commit"] for row in rows)
