"""What is refused, with which error, and that the reason says so without quoting the header."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from seqnorm_monai.images.dicom import (
    DicomReadError,
    NoPixelDataError,
    NotDicomError,
    PixelDecodeError,
    UnreadableFileError,
    UnsupportedImageError,
)
from seqnorm_monai.images.errors import find_read_error
from tests.makers.dicom_files import ramp, refusal
from tests.makers.reading import read_radiograph

Make = Callable[..., Path]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"hello, this is no image\n" * 20, "text"),
        (b"<!DOCTYPE html><html>404" + b" " * 200, "HTML"),
        (b"\n  <html><body>" + b" " * 200, "HTML"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 300, "PNG"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 300, "JPEG"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "LFS"),
        (bytes(range(256)) * 3, "no DICM prefix"),
        (b"\x08\0\x05\0CS" + bytes(range(256)) * 3, "cannot be parsed"),
    ],
)
def test_not_dicom(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "image.dcm"
    path.write_bytes(content)
    error = refusal(path)
    assert reason in error.reason


def test_data_set_without_preamble_and_without_sop_class(make_dicom: Make) -> None:
    path = make_dicom(ramp(12), SOPClassUID=None)
    data = path.read_bytes()
    path.write_bytes(data[data.index(b"\x08\0\x18\0UI") :])
    error = refusal(path)
    assert "SOP class" in error.reason


def test_unreadable(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "absent.dcm").reason
    assert "no file" in refusal(tmp_path).reason


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read every file")
def test_no_permission(make_dicom: Make) -> None:
    path = make_dicom(ramp(12))
    path.chmod(0)
    assert "permission" in refusal(path).reason


def test_no_permission_as_the_system_reports_it(make_dicom: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = make_dicom(ramp(12))
    monkeypatch.setattr(Path, "open", deny)
    assert "permission" in refusal(path).reason


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("rtstruct.dcm", "an RT structure set"),
        ("test-SR.dcm", "a structured report"),
        ("rtplan.dcm", "an RT plan"),
        ("waveform_ecg.dcm", "a waveform"),
    ],
)
def test_no_image(name: str, kind: str) -> None:
    error = refusal(get_testdata_file(name, download=False) or "")
    assert error.reason == kind
    assert error.set_aside


def test_image_without_its_pixels(make_dicom: Make) -> None:
    error = refusal(make_dicom(ramp(12), PixelData=None))
    assert "Computed Radiography Image Storage" in error.reason
    assert "cut off" in error.reason
    assert not error.set_aside


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("SC_rgb_jpeg.dcm", "a colour image (3 channels)"),
        ("examples_palette.dcm", "a colour image (3 channels)"),
        ("rtdose.dcm", "an RT dose distribution"),
        ("badVR.dcm", "an RT dose distribution"),
        ("liver_1frame.dcm", "a segmentation"),
        ("SC_ybr_full_422_uncompressed.dcm", "a colour image (3 channels)"),
    ],
)
def test_other_images(name: str, reason: str) -> None:
    error = refusal(get_testdata_file(name, download=False))
    assert reason in error.reason


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"Rows": 0}, "0 rows"),
        ({"Columns": 0}, "0 columns"),
        ({"Rows": None}, "Rows is missing"),
        ({"BitsStored": None}, "BitsStored is missing"),
        ({"BitsStored": 17}, "BitsStored 17"),
        ({"HighBit": 16}, "HighBit 16"),
        ({"HighBit": 7}, "HighBit 7"),
        ({"BitsAllocated": 24}, "BitsAllocated 24"),
        ({"PixelRepresentation": 2}, "PixelRepresentation 2"),
        ({"PhotometricInterpretation": None}, "missing"),
        ({"RescaleSlope": "0", "RescaleIntercept": "0"}, "RescaleSlope is 0"),
        ({"RescaleSlope": "1e300"}, "float32"),
        ({"RescaleSlope": ["1", "2"]}, "RescaleSlope has more than one value"),
        ({"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 4095}, "every pixel is padding"),
        ({"Rows": 7}, "the header describes"),
    ],
)
def test_contradictory_headers(make_dicom: Make, attributes: dict[str, Any], reason: str) -> None:
    error = refusal(make_dicom(ramp(12), **attributes))
    assert reason in error.reason


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
@pytest.mark.parametrize("value", [b"1,5     ", b"abcdefgh", b"nan     ", b"inf     "])
def test_rescale_that_is_no_number(make_dicom: Make, keyword: str, value: bytes) -> None:
    path = make_dicom(ramp(12), **{"RescaleSlope": "1", "RescaleIntercept": "1", keyword: "12345.67"})
    path.write_bytes(path.read_bytes().replace(b"12345.67", value))
    error = refusal(path)
    assert error.reason in (f"{keyword} is not a number", f"{keyword} is not a finite number")


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"WindowCenter": "1", "WindowWidth": "0.5"}, "WindowWidth is too small"),
        ({"WindowCenter": "1", "WindowWidth": "0", "VOILUTFunction": "SIGMOID"}, "WindowWidth is too small"),
        ({"WindowCenter": "1", "WindowWidth": "-5", "VOILUTFunction": "LINEAR_EXACT"}, "WindowWidth is too small"),
        ({"WindowCenter": "1"}, "WindowCenter and WindowWidth differ"),
        ({"WindowCenter": "1", "WindowWidth": "5", "VOILUTFunction": "CUBIC"}, "VOILUTFunction is none of"),
    ],
)
def test_bad_windows_matter_only_where_they_are_used(make_dicom: Make, attributes: dict[str, str], reason: str) -> None:
    path = make_dicom(ramp(12), **attributes)
    assert reason in refusal(path, apply_voi=True).reason
    np.testing.assert_array_equal(read_radiograph(path).pixels, ramp(12))


@pytest.mark.parametrize(
    ("descriptor", "entries", "reason"),
    [
        ([5, 0, 16], [1, 2, 3, 4], "LUTData has fewer than 5 entries"),
        ([0, 0, 16], [1, 2, 3, 4], "LUTData has fewer than 65536 entries"),
        ([4, 0, 20], [1, 2, 3, 4], "20 bits"),
        ([4, 0], [1, 2, 3, 4], "three values"),
        ([4, 0, 8], [1, 2, 3, 256], "more than 8 bits"),
    ],
)
def test_bad_lookup_tables(make_dicom: Make, descriptor: list[int], entries: list[int], reason: str) -> None:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", descriptor)
    item.add_new("LUTData", "US", entries)
    error = refusal(make_dicom(ramp(12), ModalityLUTSequence=[item]))
    assert reason in error.reason


def test_float_pixels(make_dicom: Make) -> None:
    path = make_dicom(ramp(12), PixelData=None, BitsAllocated=32, FloatPixelData=b"\0" * (43 * 37 * 4))
    assert "FloatPixelData" in refusal(path).reason


def test_modality(make_dicom: Make) -> None:
    path = make_dicom(ramp(12), Modality="MG")
    error = refusal(path, modalities=["CR", "DX"])
    assert error.reason == "Modality MG, accepted are CR, DX"
    assert read_radiograph(path, modalities=["MG"]).modality == "MG"
    with pytest.raises(TypeError, match="sequence of strings"):
        read_radiograph(path, modalities="MG")


@pytest.mark.parametrize(
    "kind",
    [DicomReadError, UnreadableFileError, NotDicomError, NoPixelDataError, UnsupportedImageError, PixelDecodeError],
)
def test_errors_survive_pickling_and_copying(kind: type[DicomReadError]) -> None:
    error = kind("/some/where: else/x.dcm", "a reason", "an advice")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind
        assert (twin.path, twin.reason, twin.advice) == (error.path, "a reason", "an advice")
        assert str(twin) == "/some/where: else/x.dcm: a reason (an advice)"


def test_find_read_error() -> None:
    original = NotDicomError("x.dcm", "empty")
    try:
        try:
            try:
                raise original
            except DicomReadError as error:
                raise RuntimeError("applying transform") from error
        except RuntimeError:
            raise ValueError("while handling it")  # noqa: B904
    except ValueError as outer:
        assert find_read_error(outer) is original
    assert find_read_error(original) is original
    assert find_read_error(ValueError("other")) is None
    assert find_read_error(None) is None
    loop = ValueError("loop")
    loop.__cause__ = loop
    assert find_read_error(loop) is None
