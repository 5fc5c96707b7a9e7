"""``python -m seqnorm_monai.images``: the table, the JSON and the NIfTI files of a mixed folder."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import CTImageStorage

from seqnorm_monai.images.__main__ import main
from seqnorm_monai.images.terminal_table import printable
from tests.makers.bundles import environment
from tests.makers.dicom_files import ramp

Make = Callable[..., Path]
SECRETS = ("Secret", "SECRETID", "19010203", "CompressedSamples")
SPACING = (0.75, 0.5, 2.5)


@pytest.fixture
def folder(make_dicom: Make, tmp_path: Path) -> Path:
    """A CT of three slices (one of them in a zip), a real MR, a 4D NIfTI file, a pair, and what is no image."""
    top = tmp_path / "study"
    (top / "sub").mkdir(parents=True)
    for index in range(3):
        path = make_dicom(
            ramp(12) // (index + 1),
            name=f"{index}.dcm",
            SOPClassUID=CTImageStorage,
            SOPInstanceUID=f"1.2.3.11.{index}",
            Modality="CT",
            PixelSpacing=["0.5", "0.75"],
            ImageOrientationPatient=["1", "0", "0", "0", "1", "0"],
            ImagePositionPatient=["-7", "11", str(2.5 * index)],
            RescaleSlope="1",
            RescaleIntercept="-1024",
        )
        path.rename(top / "sub" / path.name)
    with zipfile.ZipFile(top / "one.zip", "w") as archive:
        archive.write(top / "sub" / "2.dcm", "inside/2.dcm")
        archive.writestr("../outside", b"x")
    (top / "sub" / "2.dcm").unlink()
    (top / "mr.dcm").write_bytes(Path(get_testdata_file("MR_small.dcm", download=False)).read_bytes())
    stored = np.arange(5 * 7 * 3 * 2, dtype=np.int16).reshape(5, 7, 3, 2)
    nibabel.save(nibabel.Nifti1Image(stored, np.diag([1.5, 2, 3, 1])), top / "dynamic.nii.gz")
    nibabel.save(nibabel.Nifti1Pair(stored[..., 0], np.diag([-1.5, 2, 3, 1])), top / "pair.hdr")
    (top / "broken.nii").write_bytes(b"<html>")
    (top / "page\n\x1b[2J.dcm").write_bytes(b"<html></html>")
    (top / "dangling").symlink_to("absent")
    return top


def listed(folder: Path, tmp_path: Path, *arguments: str) -> dict[str, Any]:
    target = tmp_path / "out" / "listing.json"
    assert main([str(folder), "--json", str(target), *arguments]) == 0
    return json.loads(target.read_text())


def test_rows_and_files(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listing = listed(folder, tmp_path)
    rows = {(row["modality"], row["name"], row["phase"]): row for row in listing["rows"]}
    ct = rows["CT", "", 1]
    assert (ct["shape"], ct["spacing"], ct["orientation"], ct["files"]) == ([37, 43, 3], [0.75, 0.5, 2.5], "LPS", 3)
    assert (ct["study_instance_uid"], ct["series_instance_uid"], ct["warnings"]) == ("1.2.3.13", "1.2.3.17", [])
    mr = rows["MR", "", 1]
    assert (mr["shape"], mr["spacing"], mr["plane"], mr["series_number"]) == ([64, 64], [0.3125, 0.3125], "axial", 1)
    first, second, pair = (rows["", "dynamic.nii.gz", 1], rows["", "dynamic.nii.gz", 2], rows["", "pair.hdr", 1])
    assert (first["phases"], second["phases"], second["shape"], second["orientation"]) == (2, 2, [5, 7, 3], "RAS")
    assert (pair["orientation"], pair["files"], pair["study"]) == ("LAS", 2, 3)
    assert len(listing["rows"]) == 5
    status = {record["path"]: record["status"] for record in listing["files"]}
    assert status == {
        **dict.fromkeys(("sub/0.dcm", "sub/1.dcm", "one.zip/inside/2.dcm", "mr.dcm"), "used"),
        **dict.fromkeys(("dynamic.nii.gz", "pair.hdr", "pair.img"), "used"),
        "one.zip": "set_aside",
        **dict.fromkeys(("one.zip/../outside", "broken.nii", "page\n\x1b[2J.dcm", "dangling"), "rejected"),
    }
    assert len(listing["files"]) == len(status)
    text = capsys.readouterr()
    assert text.err == "" and "12 files: 7 used, 1 set aside, 4 rejected" in text.out
    assert "      page\\n\\x1b[2J.dcm\n" in text.out and "\x1b" not in text.out
    assert not any(secret in text.out + json.dumps(listing) for secret in SECRETS)


def test_nifti_is_what_was_read(folder: Path, tmp_path: Path) -> None:
    stored = np.stack([dcmread(folder / "sub" / f"{index}.dcm").pixel_array for index in range(2)])
    listed(folder, tmp_path, "--nifti", str(tmp_path / "nifti"))
    images = {path.name: nibabel.load(path) for path in (tmp_path / "nifti").iterdir()}
    ct = images.pop("1.2.3.13_1.2.3.17.nii.gz")
    np.testing.assert_array_equal(np.asarray(ct.dataobj)[..., :2], stored.transpose(2, 1, 0) - 1024.0)
    expected = np.array([[-0.75, 0, 0, 7], [0, -0.5, 0, -11], [0, 0, 2.5, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(ct.affine, expected)
    np.testing.assert_allclose(ct.get_qform(), expected, atol=1e-6)
    assert (int(ct.header["sform_code"]), int(ct.header["qform_code"])) == (1, 1)
    assert {"nifti-3-1_phase-1.nii.gz", "nifti-3-1_phase-2.nii.gz", "nifti-3-2.nii.gz"} < set(images)
    second = np.arange(5 * 7 * 3 * 2).reshape(5, 7, 3, 2)[..., 1]
    np.testing.assert_array_equal(np.asarray(images["nifti-3-1_phase-2.nii.gz"].dataobj), second)
    assert len(images) == 4


def test_pixels_that_cannot_be_read(folder: Path, tmp_path: Path) -> None:
    path = folder / "mr.dcm"
    dataset = dcmread(path)
    # a header that is right, and a stream that no decoder takes
    dataset.compress("1.2.840.10008.1.2.5", encoding_plugin="pydicom", generate_instance_uid=False)
    dataset.PixelData = dataset.PixelData[:40] + bytes(len(dataset.PixelData) - 48) + dataset.PixelData[-8:]
    dataset.save_as(path)
    listing = listed(folder, tmp_path, "--nifti", str(tmp_path / "nifti"))
    (record,) = (record for record in listing["files"] if record["path"] == "mr.dcm")
    assert record["status"] == "rejected" and record["reason"]
    assert len(list((tmp_path / "nifti").iterdir())) == 4


def test_selection(folder: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"selections": [{"name": "CT", "conditions": {"Modality": "(?i)ct"}}]}))
    listing = listed(folder, tmp_path, "--select", str(rules))
    assert [row["modality"] for row in listing["rows"]] == ["CT"]
    reasons = {record["path"]: record["reason"] for record in listing["files"] if record["status"] == "set_aside"}
    others = ("mr.dcm", "dynamic.nii.gz", "pair.hdr", "pair.img")
    assert {name: reasons[name] for name in others} == dict.fromkeys(others, "not chosen by the rules")
    assert len(listing["files"]) == 12


def test_exit_codes(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty")]) == 0
    assert capsys.readouterr().out == "0 files\n"
    assert main([str(tmp_path / "absent")]) == 2
    assert "no such file or folder" in capsys.readouterr().err
    (tmp_path / "rules.json").write_text("{}")
    assert main([str(folder), "--select", str(tmp_path / "rules.json")]) == 2
    assert "single key" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    for option, name in (
        ("--json", tmp_path / "file" / "x.json"),
        ("--json", tmp_path),
        ("--nifti", tmp_path / "file"),
    ):
        assert main([str(folder), option, str(name)]) == 2
        message = capsys.readouterr().err
        assert message.startswith(f"{name}: cannot be written (") and message.count("\n") == 1


def test_command_line(folder: Path) -> None:
    """In a terminal that has no letters but those of English, and a folder whose names have others."""
    (folder / "bild-ä.txt").write_text("text")
    done = subprocess.run(
        [sys.executable, "-m", "seqnorm_monai.images", str(folder)],
        env={**environment(), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "bild-\\xe4.txt" in done.stdout and "LPS" in done.stdout


def test_printable() -> None:
    assert printable("a\tb\x00\u2028\udcff") == "a\\tb\\x00\\u2028\\udcff"
    assert printable("größe 5 mm") == "größe 5 mm"
