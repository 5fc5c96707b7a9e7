"""Identifiers tell things apart, whatever they are; what may be a name goes no further than its file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seqnorm_monai.images.dicom.identifiers import is_uid, safe_identifier
from seqnorm_monai.images.dicom.scan import scan_files
from seqnorm_monai.images.sources import SourceFile
from tests.makers.dicom_files import ramp
from tests.makers.reading import load_volume
from tests.makers.series_files import Grid, check_placed, study, volumes, write_classic

Make = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("any_value")
GRID = Grid()


def replacement(text: bytes) -> str:
    return f"not-a-uid-{hashlib.sha256(text).hexdigest()[:16]}"


@pytest.mark.parametrize(
    "text",
    ["1.2.840.10008.1.2", "2.25.1234", "1.2.03.4", "01.2.3", f"1.2.{'3' * 90}", ""],
    ids=["uid", "uuid", "leading zero", "leading zero first", "too long", "absent"],
)
def test_digits_and_dots_stay(text: str) -> None:
    assert safe_identifier(text) == safe_identifier(text.encode()) == text


@pytest.mark.parametrize(
    "text",
    [
        "ID_1a2b3c4d5e",
        "ANONYMIZED",
        "Doe^Jane",
        "19010203",
        "12.03.1950",
        "1.2.3\n",
        "1..2",
        f"1.2.{'3' * 9000}",
        "1.2\0.3",
    ],
)
def test_anything_else_is_replaced(text: str) -> None:
    assert safe_identifier(text) == replacement(text.encode())
    assert not is_uid(text)


def test_other_bytes_are_told_apart() -> None:
    assert safe_identifier("Müller".encode("latin-1")) != safe_identifier("Mäller".encode("latin-1"))


@pytest.mark.parametrize("word", ["Secret^Name", "ID_{}", "0a1b2c3d4e{}", "1.2.03.{}"])
def test_a_series_without_uids_is_one_volume(word: str, tmp_path: Path) -> None:
    paths = write_classic(
        tmp_path,
        GRID,
        each=lambda phase, number: {
            "StudyInstanceUID": word.format("study"),
            "SeriesInstanceUID": word.format("series"),
            "SOPInstanceUID": f"{word.format('')}{number}",
            "FrameOfReferenceUID": word.format("frame"),
        },
    )
    report = study(paths)
    (volume,) = volumes(report)
    check_placed(volume, GRID)
    assert "Secret" not in repr(report) and "ID_" not in repr(report)


def test_the_kind_of_text_does_not_matter_to_colour(make_dicom: Make) -> None:
    """Colour is read by its header again, which has to give the same identifier."""
    rgb = np.arange(43 * 37 * 3, dtype=np.int64).reshape(43, 37, 3) % 251
    attributes = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "RGB"}
    path = make_dicom(
        ramp(8), bits_allocated=8, bits_stored=8, pixel_data=rgb.astype(np.uint8).tobytes() + b"\0",
        SOPInstanceUID="Secret^Name", **attributes,
    )  # fmt: skip
    (volume,) = volumes(study([path]))
    np.testing.assert_array_equal(load_volume(volume).numpy(), rgb.transpose(2, 1, 0))


def test_no_text_of_a_damaged_file_travels(make_dicom: Make) -> None:
    path = make_dicom(ramp(12), StudyInstanceUID="Secret^Name", SeriesInstanceUID="SECRETID", SOPInstanceUID="19010203")
    path.write_bytes(path.read_bytes()[:-99])
    scan = scan_files([SourceFile("a", path)])
    record = scan.records["a"]
    assert record.status == "rejected" and "cut off" in record.reason
    assert (record.study, record.series) == (replacement(b"Secret^Name"), replacement(b"SECRETID"))
    assert "Secret" not in repr(scan) and "SECRETID" not in repr(scan) and "19010203" not in repr(scan)


@pytest.mark.parametrize("word", ["ANONYMIZED", "0", "ID_"])
def test_one_word_in_every_file(word: str, make_dicom: Make, tmp_path: Path) -> None:
    """It tells nothing apart: images are told apart by what they are, copies too."""
    alike = {"StudyInstanceUID": word, "SeriesInstanceUID": word, "SOPInstanceUID": word}
    paths = [make_dicom(ramp(12) // number, name=f"{number}.dcm", **alike) for number in (1, 2, 3)]
    (tmp_path / "copy.dcm").write_bytes(paths[0].read_bytes())
    report = study([*paths, tmp_path / "copy.dcm"])
    assert [record.status for record in report.files] == ["used", "used", "used", "set_aside"]
    for number, volume in zip((1, 2, 3), volumes(report), strict=True):
        np.testing.assert_array_equal(load_volume(volume)[0].numpy(), (ramp(12) // number).T)


@pytest.mark.parametrize("damage", ["none", "header", "pixels"])
def test_slices_with_one_word_in_every_file(damage: str, tmp_path: Path) -> None:
    """A damaged one is no copy of another: its series lacks a slice."""
    paths = write_classic(tmp_path, GRID, each=lambda phase, number: {"SOPInstanceUID": "ANONYMIZED"})
    data = paths[0].read_bytes()
    if damage == "header":
        paths[0].write_bytes(data[:-99])
    elif damage == "pixels":
        paths[0].write_bytes(data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"))
    report = study(paths)
    if damage == "none":
        (volume,) = volumes(report)
        check_placed(volume, GRID)
    else:
        assert {record.status for record in report.files} == {"rejected"}
