"""Folders of series: every file has one fate, and what comes out is whole, or refused by name."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.data
import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage

from seqnorm_monai.images.dicom.series import ScannedStudies
from tests.makers.reading import load_volume
from tests.makers.series_files import (
    Grid,
    check_placed,
    expected,
    itk_series,
    only_reason,
    study,
    volumes,
    write_classic,
    write_enhanced,
)

GRID = Grid()
PAIR = Path(__file__).resolve().parents[4] / "shared" / "data" / "mri_dicom_pgbm" / "Study1"
TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"


def statuses(report: ScannedStudies) -> Counter[str]:
    return Counter(record.status for record in report.files)


def test_names_of_files_mean_nothing(tmp_path: Path) -> None:
    """Shuffled, renamed, without an ending; instance numbers against the normal."""
    paths = write_classic(
        tmp_path / "in",
        GRID,
        each=lambda phase, number: {"InstanceNumber": [3, 1, 5, 2, 4][number], "SliceLocation": 0},
    )
    random.Random(11).shuffle(paths)
    renamed = [path.rename(path.with_name(f"{number}_{'x' * number}")) for number, path in enumerate(paths)]
    (volume,) = volumes(study(renamed))
    check_placed(volume, GRID)


def test_mixed_series_in_nested_folders(tmp_path: Path) -> None:
    """Three series of two kinds and a map, files of all mixed over folders."""
    small = Grid(slices=2, rows=4, columns=4)
    scanned = {
        "1.2.3.20": (GRID, write_classic(tmp_path / "a", GRID, series="1.2.3.20")),
        "1.2.3.21": (small, write_classic(tmp_path / "b", small, series="1.2.3.21", kind=CTImageStorage)),
        "1.2.3.22": (GRID, [write_enhanced(tmp_path / "c" / "e.dcm", GRID, series="1.2.3.22")]),
    }
    paths = [path for _, series in scanned.values() for path in series]
    random.Random(5).shuffle(paths)
    moved = []
    for number, path in enumerate(paths):
        folder = tmp_path / "study" / str(number % 3) / "deep" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        moved.append(path.rename(folder / f"{number}"))
    report = study(moved, tmp_path / "study")
    assert statuses(report) == {"used": len(paths)}
    assert {series.series_instance_uid for series in report.series} == set(scanned)
    for series in report.series:
        (volume,) = series.volumes
        check_placed(volume, scanned[series.series_instance_uid][0])
        assert series.modality == ("CT" if series.series_instance_uid == "1.2.3.21" else "MR")


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_missing_slice_is_refused(lost: int, tmp_path: Path) -> None:
    reason = only_reason(study(write_classic(tmp_path, GRID, skip=[(0, lost)])))
    before, after = 43 + 2.5 * (lost - 1), 43 + 2.5 * (lost + 1)
    assert f"1 slice missing between {before:.2f} and {after:.2f} mm" in reason


def edges(count: int) -> dict[str, Any]:
    return {"each": lambda phase, number: {"InstanceNumber": number + 1, "ImagesInAcquisition": count}}


@pytest.mark.parametrize("lost", [0, 4])
def test_lost_edge_is_refused_where_two_attributes_say_so(lost: int, tmp_path: Path) -> None:
    paths = write_classic(tmp_path, GRID, skip=[(0, lost)], **edges(5))
    assert "1 slice missing at the edge, by ImagesInAcquisition" in only_reason(study(paths))


@pytest.mark.parametrize(
    "attributes",
    [
        # the count may be that of several series or phases, or of none
        lambda phase, number: {"InstanceNumber": number + 1, "ImagesInAcquisition": 10},
        lambda phase, number: {"InstanceNumber": number + 1, "ImagesInAcquisition": 3},
        lambda phase, number: {"ImagesInAcquisition": 6},
        # an archive numbered the images anew, or in another order
        lambda phase, number: {"InstanceNumber": number + 100, "ImagesInAcquisition": 6},
        lambda phase, number: {"InstanceNumber": 2 * number + 1, "ImagesInAcquisition": 6},
        lambda phase, number: {"InstanceNumber": number + 2},
        lambda phase, number: {"InstanceNumber": number + 1, "ImagesInAcquisition": 6, "AcquisitionNumber": number},
    ],
)
def test_one_attribute_alone_refuses_nothing(attributes: Any, tmp_path: Path) -> None:  # noqa: ANN401
    (volume,) = volumes(study(write_classic(tmp_path, GRID, each=attributes)))
    check_placed(volume, GRID)


def test_what_only_one_attribute_says_is_a_remark(tmp_path: Path) -> None:
    paths = write_classic(tmp_path / "a", GRID, each=lambda phase, number: {"ImagesInAcquisition": 6})
    assert volumes(study(paths))[0].warning == "5 images, ImagesInAcquisition is 6"
    phases = [{"TemporalPositionIdentifier": n, "NumberOfTemporalPositions": 3} for n in (1, 2)]
    problems = {volume.warning for volume in volumes(study(write_classic(tmp_path / "b", GRID, phases)))}
    assert problems == {"2 phases, NumberOfTemporalPositions is 3"}
    assert volumes(study(write_classic(tmp_path / "c", GRID)))[0].warning == ""


def test_images_in_acquisition_of_all_phases_refuses_nothing(tmp_path: Path) -> None:
    phases = [{"TriggerTime": n, "ImagesInAcquisition": 10} for n in (0, 9)]
    found = volumes(study(write_classic(tmp_path, GRID, phases, each=lambda p, n: {"InstanceNumber": 5 * p + n + 1})))
    assert len(found) == 2


def test_duplicate_of_a_file_is_set_aside(tmp_path: Path) -> None:
    paths = write_classic(tmp_path, GRID)
    shutil.copy(paths[2], tmp_path / "copy.dcm")
    report = study([*paths, tmp_path / "copy.dcm"])
    assert statuses(report) == {"used": 5, "set_aside": 1}
    check_placed(volumes(report)[0], GRID)


def test_duplicate_slice_of_another_uid_is_refused(tmp_path: Path) -> None:
    paths = write_classic(tmp_path, GRID)
    dataset = dcmread(paths[2])
    dataset.SOPInstanceUID = "1.2.3.99"
    dataset.save_as(tmp_path / "again.dcm")
    reason = only_reason(study([*paths, tmp_path / "again.dcm"]))
    assert "1 to 2 slices lie at one position" in reason


@pytest.mark.parametrize("mark", [b"\x28\0\x10\0US", b"\x28\0\0\x01US", b"\xe0\x7f\x10\0OW"])
def test_truncated_file_spoils_its_series_and_no_other(mark: bytes, tmp_path: Path) -> None:
    """Cut off before its size, the depth of its pixels, or its pixels: a slice of its series, so none of it is read."""
    bad = write_classic(tmp_path, GRID, stem="bad")
    good = write_classic(tmp_path, GRID, series="1.2.3.50", stem="good")
    data = bad[4].read_bytes()
    bad[4].write_bytes(data[: data.index(mark)])
    report = study([*bad, *good])
    (volume,) = volumes(report)
    check_placed(volume, GRID)
    assert volume.series_instance_uid == "1.2.3.50"
    assert [record.status for record in report.files] == ["rejected"] * 5 + ["used"] * 5


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "PixelSpacing"])
def test_geometry_and_rescale_that_cannot_be_read_refuse(keyword: str, tmp_path: Path) -> None:
    """Unlike what only tells phases apart, they never count as absent: not even in the last slice of a stack."""
    paths = write_classic(tmp_path, GRID, each=lambda phase, number: {"RescaleSlope": "7.125"})
    data = paths[4].read_bytes()
    value = dcmread(paths[4]).get_item(keyword).value
    assert data.count(value) == 1
    paths[4].write_bytes(data.replace(value, b"x" + value[1:]))
    report = study(paths)
    assert {record.status for record in report.files} == {"rejected"}
    assert report.files[4].reason.startswith(keyword)


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("ImagePositionPatient", ["1e308", "-1e308", "1e308"]),
        ("ImageOrientationPatient", ["1e308", "1e308", "0", "-1e308", "1e308", "0"]),
        ("ImageOrientationPatient", ["1", "0.2", "0", "0", "1", "0"]),
        ("PixelSpacing", ["1e308", "1e308"]),
        ("InstanceNumber", "-2147483648"),
        ("TriggerTime", "-1e308"),
    ],
)
def test_absurd_numbers_in_one_slice_or_all(keyword: str, values: Any, tmp_path: Path) -> None:  # noqa: ANN401
    """No overflow, and no volume without the slice."""
    for name, count in (("one", 1), ("all", 5)):
        every = {"TriggerTime": "1e308", "InstanceNumber": 1}
        paths = write_classic(
            tmp_path / name,
            GRID,
            each=lambda phase, number, count=count, every=every: {
                **every,
                **({keyword: values} if number < count else {}),
            },
        )
        report = study(paths)
        if keyword in every:
            check_placed(volumes(report)[0], GRID)
        else:
            assert only_reason(report)


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_geometry_that_one_slice_lacks_refuses(keyword: str, tmp_path: Path) -> None:
    """A slice without a place may be the last of the stack: no shorter volume and an image beside it."""
    paths = write_classic(tmp_path, GRID)
    dataset = dcmread(paths[4])
    delattr(dataset, keyword)
    dataset.save_as(paths[4])
    assert "some slices have" in only_reason(study(paths))


def test_screenshot_among_slices_does_not_harm_them(tmp_path: Path) -> None:
    paths = write_classic(tmp_path, GRID, each=lambda phase, number: {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]})
    dataset = dcmread(paths[4])
    dataset.SOPInstanceUID, dataset.ImageType = "1.2.3.98", ["DERIVED", "SECONDARY", "OTHER"]
    del dataset.ImagePositionPatient
    dataset.save_as(tmp_path / "shot.dcm")
    volume, image = volumes(study([*paths, tmp_path / "shot.dcm"]))
    check_placed(volume, GRID)
    assert image.kind == "image" and image.affine is None


def test_single_slice_is_flat(tmp_path: Path) -> None:
    grid = Grid(slices=1)
    (volume,) = volumes(study(write_classic(tmp_path, grid, each=lambda phase, number: {"SliceThickness": "4"})))
    tensor = check_placed(volume, grid)
    assert tensor.shape == (1, 3, 7)
    np.testing.assert_allclose(tensor.affine[:3, 2], (0, 0, 4))


def test_all_files_of_pydicom_are_accounted_for() -> None:
    paths = sorted(path for path in TEST_FILES.iterdir() if path.is_file())
    assert len(paths) > 50
    report = study(random.Random(2).sample(paths, len(paths)))
    assert len(report.files) == len(paths)
    in_volumes = {name for volume in volumes(report) for name in volume.files}
    assert in_volumes == {record.path for record in report.files if record.status == "used"}
    assert all(record.reason for record in report.files if record.status != "used")


def pair() -> list[Path]:
    if not PAIR.is_dir():
        pytest.skip(f"{PAIR} is not there")
    return sorted(path for path in PAIR.iterdir() if path.is_dir())


def test_real_pair_is_that_of_itk_and_subtracts_to_the_pixel() -> None:
    """Before and after contrast, of one scanner: read together, in the geometry of ITK, subtracted in one grid."""
    folders = pair()
    paths = sorted(path for folder in folders for path in folder.glob("*.dcm"))
    report = study(random.Random(3).sample(paths, len(paths)), PAIR)
    assert statuses(report) == {"used": 44}
    by_folder = {PAIR / Path(volume.files[0]).parts[0]: volume for volume in volumes(report)}
    tensors, references = {}, {}
    for folder in folders:
        tensor, (pixels, affine) = load_volume(by_folder[folder]), itk_series(folder)
        np.testing.assert_array_equal(tensor[0].numpy(), pixels)
        np.testing.assert_allclose(tensor.affine.numpy(), affine, atol=1e-5)
        name = "post" if "post" in folder.name else "pre"
        tensors[name], references[name] = tensor, pixels
    np.testing.assert_array_equal(tensors["post"].affine.numpy(), tensors["pre"].affine.numpy())
    difference = (tensors["post"] - tensors["pre"])[0].numpy()
    np.testing.assert_array_equal(difference, references["post"] - references["pre"])
    assert np.abs(difference).max() > 0


@pytest.mark.parametrize("lost", [0, 10, 21])
def test_slice_lost_from_the_real_series_is_refused(lost: int) -> None:
    """At either edge too: this scanner says how many images the acquisition has."""
    folder = next(folder for folder in pair() if dcmread(next(folder.glob("*.dcm"))).get("ImagesInAcquisition"))
    by_place = sorted(folder.glob("*.dcm"), key=lambda path: dcmread(path, stop_before_pixels=True).InstanceNumber)
    del by_place[lost]
    assert "1 slice missing" in only_reason(study(by_place))


def test_expected_values_are_those_of_each_slice(tmp_path: Path) -> None:
    """The generator itself: what pydicom reads is what the tests expect."""
    paths = write_classic(tmp_path, GRID)
    for number, path in enumerate(paths):
        dataset = dcmread(path)
        values = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        np.testing.assert_array_equal(values, expected(GRID)[number])
