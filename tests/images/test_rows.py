"""Rows of a listing: stacks, phases, planes, what is refused of a series; and the table made of them."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom import dcmread

from seqnorm_monai.images.__main__ import main
from seqnorm_monai.images.dicom.errors import SeriesError
from seqnorm_monai.images.dicom.series import Series
from seqnorm_monai.images.inventory import Inventory, _refused, check_pixels, take_inventory
from seqnorm_monai.images.rows import axis_letters, plane_of
from seqnorm_monai.images.rules import parse_rules
from seqnorm_monai.images.sources import open_sources
from seqnorm_monai.images.terminal_table import table
from tests.makers.bundles import environment
from tests.makers.studies import SECRETS, mr_slice, save, write_phases


def listed(folder: Path) -> Inventory:
    with open_sources(folder) as sources:
        return take_inventory(sources)


def test_phases_stacks_and_series_in_order(tmp_path: Path) -> None:
    """Series by number, not by UID; stacks of one series; phases of each."""
    write_phases(tmp_path / "a", 2, SeriesNumber=10)
    turned = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1], "SeriesNumber": 10}
    for index in range(3):
        pixels = np.full((7, 11), index, np.uint16)
        position = [4.0 * index, 0, 0]
        dataset = mr_slice(pixels, 0, f"1.2.3.31.{index}", ImagePositionPatient=position, **turned)
        save(dataset, tmp_path / "b" / str(index))
    write_phases(tmp_path / "c", SeriesInstanceUID="1.2.3.9", SeriesNumber=9)
    rows = listed(tmp_path).rows
    places = [(row.series_number, row.series, row.stack, row.stacks, row.phase, row.phases) for row in rows]
    assert places == [(9, 1, 1, 1, 1, 1), (10, 2, 1, 2, 1, 2), (10, 2, 1, 2, 2, 2), (10, 2, 2, 2, 1, 1)]
    assert [row.label for row in rows] == ["", "temporal position 1", "temporal position 2", ""]
    last = rows[-1]
    # right to left is the third axis, from the left
    assert (last.shape, last.spacing, last.orientation, last.plane) == ((11, 7, 3), (0.75, 1.25, 4), "PIR", "sagittal")
    text = table(listed(tmp_path))
    assert [line.split()[0] for line in text.splitlines()[2:6]] == ["1", "2.1", "2.1", "2.2"]
    assert "11 x 7 x 3" in text and "15 files: 15 used" in text


def test_a_series_that_is_refused_has_a_row(tmp_path: Path) -> None:
    write_phases(tmp_path / "good", SeriesInstanceUID="1.2.3.23")
    write_phases(tmp_path / "bad")
    heights = {dcmread(path).ImagePositionPatient[2]: path for path in (tmp_path / "bad").iterdir()}
    heights[0].unlink()
    listing = listed(tmp_path)
    refused, used = listing.rows
    assert (used.status, used.files, refused.status, refused.files) == ("used", 4, "rejected", 3)
    assert refused.series_instance_uid == "1.2.3.17" and refused.modality == "MR"
    (problem,) = refused.problems
    assert "between -2.50 and 2.50 mm" in problem and "its series" not in problem
    assert [entry.row for entry in listing.entries] == [used]
    text = table(listing)
    assert f"  refused: {problem}" in text and "used, but" not in text
    assert f"3 files: its series is refused: {problem}" in text
    assert "      bad/" in text and "7 files: 4 used, 3 rejected" in text


def test_a_file_alone_that_is_refused_has_a_row(tmp_path: Path) -> None:
    save(mr_slice(np.zeros((6, 5), np.uint16), 0, "1.2.3.4", BitsAllocated=13), tmp_path / "x")
    (row,) = listed(tmp_path).rows
    assert (row.status, row.files, row.shape) == ("rejected", 1, ())
    assert "BitsAllocated" in row.problems[0]


def test_many_reasons_are_cut(tmp_path: Path) -> None:
    wrong = ({"BitsAllocated": 13}, {"Rows": 0}, {"PixelRepresentation": 7}, {"SamplesPerPixel": 2}, {"BitsStored": 99})
    for index, attributes in enumerate(wrong):
        save(mr_slice(np.zeros((6, 5), np.uint16), 0, f"1.2.3.4.{index}", **attributes), tmp_path / str(index))
    (row,) = listed(tmp_path).rows
    assert row.files == 5 and len(row.problems) == 4 and row.problems[3] == "and 2 other reasons"


def test_files_of_a_reason_are_counted_and_some_named(tmp_path: Path) -> None:
    for index in range(7):
        (tmp_path / f"page {index}").write_bytes(b"<html>")
    text = table(listed(tmp_path))
    assert "7 files: 7 rejected" in text
    assert "      page 0, page 1, page 2 and 4 more" in text


@pytest.mark.parametrize(
    ("columns", "axes", "plane"),
    [
        (([-1, 0, 0], [0, -1, 0], [0, 0, 1]), "LPS", "axial"),
        (([-3, 0, 0], [0, 0, -2], [0, -1, 0]), "LIP", "coronal"),
        (([0, -1, 0], [0, 0, -1], [1, 0, 0]), "PIR", "sagittal"),
        (([-1, 0, 0], [0, -0.8, 0.6], [0, 0.6, 0.8]), "LPS", "axial, 37 degrees oblique"),
        (([-1, 0, 0], [0, -1, 0.008], [0, 0, 1]), "LPS", "axial"),
        # the plane is that of the slices, not of a tilted gantry's third axis
        (([-1, 0, 0], [0, -1, 0], [0, 0.4, 1]), "LPS", "axial"),
    ],
)  # fmt: skip
def test_orientation_in_words(columns: tuple[list[float], ...], axes: str, plane: str) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack(columns)
    assert (axis_letters(affine), plane_of(affine)) == (axes, plane)


def test_problems_of_geometry(tmp_path: Path) -> None:
    pixels = np.zeros((6, 5), np.uint16)
    nowhere = {"ImagePositionPatient": None, "ImageOrientationPatient": None}
    save(mr_slice(pixels, 0, "1.2.3.4", SeriesInstanceUID="1.2.4", **nowhere), tmp_path / "a")
    save(mr_slice(pixels, 0, "1.2.3.5", SeriesInstanceUID="1.2.5", PixelSpacing=None, **nowhere), tmp_path / "b")
    for index in range(3):
        position = [0, index, 3.0 * index]
        save(mr_slice(pixels, 0, f"1.2.3.6.{index}", SeriesInstanceUID="1.2.6", ImagePositionPatient=position),
             tmp_path / "c" / str(index))  # fmt: skip
    problems = [row.problems for row in listed(tmp_path).rows]
    no_place, tilted = "no position in the patient", "tilted gantry: slices are shifted against each other"
    assert problems == [(no_place,), (no_place, "no spacing"), (tilted,)]


def test_check_finds_what_the_headers_hide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_phases(tmp_path / "in")
    path = tmp_path / "in" / "I2"
    dataset = dcmread(path)
    dataset.compress("1.2.840.10008.1.2.5", encoding_plugin="pydicom", generate_instance_uid=False)
    # in the header of RLE: where the second segment starts
    dataset.PixelData = dataset.PixelData[:28] + b"\0\x0f\0\0" + dataset.PixelData[32:]
    dataset.save_as(path)
    assert main([str(tmp_path / "in")]) == 0
    assert "4 files: 4 used" in capsys.readouterr().out
    assert main([str(tmp_path / "in"), "--check", "--json", str(tmp_path / "x.json")]) == 0
    assert "4 files: 4 rejected" in capsys.readouterr().out
    text = (tmp_path / "x.json").read_text()
    (row,) = json.loads(text)["rows"]
    assert row["status"] == "rejected" and row["reasons"] and row["shape"] == [5, 6, 4]
    assert not any(secret in text for secret in SECRETS)


def test_one_phase_of_a_file_is_beyond_reach(tmp_path: Path) -> None:
    stored = np.ones((5, 7, 3, 2))
    stored[0, 0, 0, 1] = 1e39
    nibabel.save(nibabel.Nifti1Image(stored, np.eye(4)), tmp_path / "a.nii")
    with open_sources(tmp_path) as sources:
        listing = take_inventory(sources)
        check_pixels(listing)
    assert [row.status for row in listing.rows] == ["used", "rejected"]
    (record,) = listing.files
    assert record.status == "used" and record.reason.startswith("in part, elsewhere values beyond float32")
    assert "used, but for a part:\n  1 file: in part" in table(listing)


def test_two_headers_of_one_file_of_voxels(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Pair(np.ones((5, 7, 3), np.int16), np.eye(4)), tmp_path / "a.hdr")
    (tmp_path / "a.hdr.gz").write_bytes(gzip.compress((tmp_path / "a.hdr").read_bytes()))
    listing = listed(tmp_path)
    assert [(record.path, record.status) for record in listing.files] == [
        ("a.hdr", "used"),
        ("a.hdr.gz", "used"),
        ("a.img", "used"),
    ]


def test_rules_choose_series_and_keep_refusals(tmp_path: Path) -> None:
    write_phases(tmp_path / "a", SeriesInstanceUID="1.2.3.23", SeriesNumber=1)
    write_phases(tmp_path / "b", SeriesNumber=2)
    content = save(mr_slice(np.zeros((6, 5), np.uint16), 0, "1.2.5", SeriesInstanceUID="1.2.4"), tmp_path / "c")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.write(content, "double")
        archive.writestr("double", b"other")
    content.unlink()
    rules = parse_rules({"selections": [{"conditions": {"SeriesNumber": 2}}]})
    with open_sources(tmp_path) as sources:
        listing = take_inventory(sources, rules)
    assert [row.series_number for row in listing.rows] == [2]
    found = [(record.path, record.status) for record in listing.files if not record.path.startswith("a/")]
    assert found == [
        *((f"b/I{index}", "used") for index in range(4)),
        ("z.zip", "set_aside"),
        ("z.zip/double", "set_aside"),
        ("z.zip/double", "rejected"),
    ]


def test_what_is_refused_in_part_is_counted() -> None:
    """A file of several stacks, one of them refused: it is used, and has a row of its refusal."""
    error = SeriesError(["a", "b"], "its series is refused: a slice is missing")
    assert _refused([], Series("1.2", "1.3", "MR", (), (error,))) == (2, ("a slice is missing",))


def test_a_reader_of_the_table_may_leave(tmp_path: Path) -> None:
    for index in range(3000):
        (tmp_path / f"{index:04}.nii").write_bytes(f"{index}".encode())
    with subprocess.Popen(
        [sys.executable, "-m", "seqnorm_monai.images", str(tmp_path)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait(300)) == (b"", 0)
