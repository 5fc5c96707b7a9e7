"""What Windows and macOS do not have is not needed."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from seqnorm_monai.images.__main__ import main
from seqnorm_monai.images.dicom.pixels import decoders
from seqnorm_monai.images.inventory import check_pixels, take_inventory
from seqnorm_monai.images.slides.regions import open_image
from seqnorm_monai.images.sources import open_sources
from tests.makers.studies import write_phases

# names of `os` that Python has on Linux and not on Windows
ABSENT = [name for name in ("sysconf", "sched_getaffinity", "statvfs", "fork", "uname") if hasattr(os, name)]


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ABSENT:
        monkeypatch.delattr(os, name)
    if hasattr(mmap, "MADV_DONTNEED"):
        monkeypatch.delattr(mmap, "MADV_DONTNEED")


@pytest.mark.usefixtures("windows")
def test_reading_needs_no_names_of_linux(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_phases(tmp_path / "in" / "dicom")
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 4, 5), np.uint8), np.eye(4)), tmp_path / "in" / "a.nii.gz")
    with open_sources(tmp_path / "in") as sources:
        inventory = take_inventory(sources)
        check_pixels(inventory)
    assert [row.status.value for row in inventory.rows] == ["used", "used"]
    assert main([str(tmp_path / "in"), "--json", str(tmp_path / "content.json")]) == 0
    assert "5 files: 5 used" in capsys.readouterr().out


@pytest.mark.usefixtures("windows")
def test_compressed_frames_and_maps(tmp_path: Path) -> None:
    assert decoders._threads() >= 1
    np.save(tmp_path / "image.npy", np.arange(12.0).reshape(3, 4))
    with open_image(tmp_path / "image.npy") as image:
        assert image.read(1, 1, 2, 2).tolist() == [[5.0, 6.0], [9.0, 10.0]]


def test_a_listing_survives_a_terminal_of_few_letters(tmp_path: Path) -> None:
    """Windows' consoles have code pages of 256 letters; names of files and descriptions have more."""
    write_phases(tmp_path / "胸部", SpecificCharacterSet="ISO_IR 192", SeriesDescription="胸部 正面")
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    command = [sys.executable, "-m", "seqnorm_monai.images", str(tmp_path)]
    found = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert b"\\u80f8\\u90e8" in found.stdout and b"4 files: 4 used" in found.stdout
