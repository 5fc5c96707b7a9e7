"""A projection is an image for itself: what its header says of places costs it nothing, nor do bad neighbours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.dataset import Dataset

from seqnorm_monai.images.dicom.open import read_header
from seqnorm_monai.images.dicom.sop_classes import is_projection
from tests.makers.dicom_files import ramp
from tests.makers.reading import load_volume
from tests.makers.series_files import Grid, check_placed, study, volumes, write_classic

Make = Callable[..., Path]
GRID = Grid()
STUDY = {"StudyInstanceUID": "1.2.3.13"}
PLACE = {"ImagePositionPatient": ["0", "0", "7"], "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"]}
DX = {"SOPClassUID": uid.DigitalXRayImageStorageForPresentation, "Modality": "DX"}
pytestmark = pytest.mark.usefixtures("any_value")


def pair(make: Make, *changes: dict[str, Any], **attributes: Any) -> list[Path]:  # noqa: ANN401
    """A file for each of `changes`, of one series."""
    return [
        make(ramp(12), name=f"{number}.dcm", SOPInstanceUID=f"1.2.3.11.{number}", **{**attributes, **change})
        for number, change in enumerate(changes)
    ]


def check_alone(paths: list[Path]) -> None:
    """Every file is one image without a place, with its own values."""
    report = study(paths)
    assert [(record.status, record.reason) for record in report.files] == [("used", "")] * len(paths)
    found = volumes(report)
    assert [volume.files for volume in found] == [(path.name,) for path in paths]
    for volume in found:
        assert (volume.kind, volume.affine, volume.derived) == ("image", None, "")
        np.testing.assert_array_equal(load_volume(volume)[0].numpy(), ramp(12).T)


@pytest.mark.parametrize(
    "changes",
    [
        ({}, {}),
        ({}, {"ImagePositionPatient": ["0", "0", "8"]}),
        ({"ImageOrientationPatient": ["0"] * 6}, {}),
        ({"ImageOrientationPatient": ["1", "0"]}, {"ImagePositionPatient": ["1", "2"]}),
        ({"PixelSpacing": ["0", "0"]}, {"PixelSpacing": ["0.5", "0.5"]}),
        ({"ImagePositionPatient": None, "ImageOrientationPatient": None}, {}),
    ],
    ids=["one place", "two places", "no orientation", "too few numbers", "no spacing", "one without a place"],
)
def test_geometry_of_another_image(make_dicom: Make, changes: tuple[dict[str, Any], ...]) -> None:
    changes = tuple({key: value for key, value in change.items() if value is not None} for change in changes)
    check_alone(pair(make_dicom, *changes, **PLACE, **DX))


def test_position_that_is_no_number(make_dicom: Make) -> None:
    (path,) = pair(make_dicom, {"ImagePositionPatient": ["12345.67", "1", "1"]}, **DX)
    path.write_bytes(path.read_bytes().replace(b"12345.67", b"abcdefgh"))
    check_alone([path])


@pytest.mark.parametrize(
    "image_type",
    [
        ["ORIGINAL", "PRIMARY", "LOCALIZER"],
        ["DERIVED", "PRIMARY", "", "SUB"],
        ["DERIVED", "PRIMARY", "MOSAIC"],
        ["DERIVED", "SECONDARY", "ADC", "T1"],
    ],
)
def test_image_type_that_means_something_in_a_slice(make_dicom: Make, image_type: list[str]) -> None:
    check_alone(pair(make_dicom, {"ImageType": image_type}, **DX))


def test_a_damaged_neighbour(make_dicom: Make) -> None:
    first, second = pair(make_dicom, {}, {}, **PLACE, **DX)
    second.write_bytes(second.read_bytes()[:-99])
    report = study([first, second])
    assert [record.status for record in report.files] == ["used", "rejected"]


def test_slices_of_the_series_that_are_no_volume(make_dicom: Make, tmp_path: Path) -> None:
    """And the other way round: slices lack nothing because of a projection among them."""
    slices = write_classic(tmp_path / "slices", GRID, series="1.2.3.17", each=lambda phase, number: STUDY)
    (radiograph,) = pair(make_dicom, {}, **PLACE, **DX)
    report = study([radiograph, *slices])
    assert {record.status for record in report.files} == {"used"}
    volume, image = volumes(report)
    check_placed(volume, GRID)
    assert image.files == (radiograph.name,)
    report = study([radiograph, *(path for number, path in enumerate(slices) if number != 2)])
    assert [record.status for record in report.files] == ["used"] + ["rejected"] * (len(slices) - 1)


def test_parts_of_one_image_need_each_other(make_dicom: Make) -> None:
    parts = {"ConcatenationUID": "1.2.3.5", "InConcatenationTotalNumber": 3}
    paths = pair(make_dicom, parts, parts, {}, **DX)
    report = study(paths)
    assert [record.status for record in report.files] == ["rejected", "rejected", "used"]
    assert "2 of 3 parts of a concatenation" in report.files[0].reason


def test_frames_of_functional_groups(make_dicom: Make) -> None:
    group, place, measures = Dataset(), Dataset(), Dataset()
    place.ImagePositionPatient = ["1", "2"]
    measures.PixelSpacing = ["0.5", "0.25"]
    group.PlanePositionSequence, group.PixelMeasuresSequence = [place], [measures]
    path = make_dicom(
        ramp(12), SOPClassUID=uid.EnhancedXAImageStorage, Modality="XA", NumberOfFrames=1,
        PerFrameFunctionalGroupsSequence=[group],
    )  # fmt: skip
    (volume,) = volumes(study([path]))
    assert (volume.affine, volume.spacing) == (None, (0.25, 0.5, 1.0))


CAPTURE = {"SOPClassUID": uid.SecondaryCaptureImageStorage, "Modality": "CT"}


@pytest.mark.parametrize("modality", ["CT", "MR", "PT", "OT", "DX", ""])
@pytest.mark.parametrize(
    "changes",
    [
        ({}, {}),
        ({}, {"ImagePositionPatient": ["0", "0", "8"]}),
        ({"ImageOrientationPatient": ["0"] * 6}, {}),
        ({"ImagePositionPatient": ["1", "2"]}, {}),
        ({"PixelSpacing": ["0", "0"]}, {}),
        ({}, {"ImagePositionPatient": ["0", "0", "8"]}, {"ImagePositionPatient": ["0", "0", "17"]}),
    ],
    ids=["one place", "two places", "no orientation", "too few numbers", "no spacing", "uneven"],
)
def test_captures_with_the_geometry_of_a_slice(
    make_dicom: Make, modality: str, changes: tuple[dict[str, Any], ...]
) -> None:
    check_alone(pair(make_dicom, *changes, **PLACE, **{**CAPTURE, "Modality": modality}))


def test_a_capture_among_slices(make_dicom: Make, tmp_path: Path) -> None:
    """Of their size, and at the place of one of them, whose header it has."""
    slices = write_classic(tmp_path / "slices", GRID, series="1.2.3.17", each=lambda phase, number: STUDY)
    header = dcmread(slices[1])
    header.SOPClassUID, header.SOPInstanceUID = uid.SecondaryCaptureImageStorage, "1.2.3.11.99"
    header.save_as(tmp_path / "capture.dcm")
    report = study([tmp_path / "capture.dcm", *slices])
    assert {record.status for record in report.files} == {"used"}
    volume, image = sorted(volumes(report), key=lambda volume: -len(volume.planes))
    check_placed(volume, GRID)
    assert (image.files, image.kind, image.affine) == (("capture.dcm",), "image", None)


def test_captures_that_are_a_volume(tmp_path: Path) -> None:
    """As converters write them; without one of them nobody knows which they were, and each stands for itself."""
    paths = write_classic(tmp_path, GRID, each=lambda phase, number: {"SOPClassUID": uid.SecondaryCaptureImageStorage})
    (volume,) = volumes(study(paths))
    check_placed(volume, GRID)
    rest = [path for number, path in enumerate(paths) if number != 2]
    assert [volume.kind for volume in volumes(study(rest))] == ["image"] * len(rest)


@pytest.mark.parametrize(
    ("sop_class", "modality", "expected"),
    [
        (uid.ComputedRadiographyImageStorage, "CR", True),
        (uid.ComputedRadiographyImageStorage, "", True),
        (uid.DigitalMammographyXRayImageStorageForPresentation, "MG", True),
        # slices under the Modality of their projections
        (uid.BreastTomosynthesisImageStorage, "MG", False),
        (uid.XRay3DAngiographicImageStorage, "XA", False),
        (uid.EnhancedUSVolumeStorage, "US", False),
        (uid.CTImageStorage, "CT", False),
        (uid.CTImageStorage, "", False),
        (uid.MRImageStorage, "OT", False),
        (uid.SecondaryCaptureImageStorage, "OT", True),
        (uid.SecondaryCaptureImageStorage, "", True),
        (uid.SecondaryCaptureImageStorage, "CT", False),
        ("1.2.3.4.5", "DX", True),
        ("1.2.3.4.5", "CT", False),
        ("1.2.3.4.5", "", False),
        ("", "CT", False),
        ("", "XA", True),
        # the class in the meta information, that of `make_dicom`
        ("", "", True),
    ],
)
def test_what_is_a_projection(make_dicom: Make, sop_class: str, modality: str, expected: bool) -> None:
    path = make_dicom(ramp(12), SOPClassUID=sop_class or None, Modality=modality)
    assert is_projection(read_header(path, ["Modality"])) is expected


def test_modality_that_is_no_code(make_dicom: Make) -> None:
    path = make_dicom(ramp(12), Modality="X-RAY")
    (volume,) = volumes(study([path]))
    assert volume.modality == "X-RAY"
