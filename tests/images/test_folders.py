"""Series as they lie in folders: in any order, mixed, nested, with slices missing, double, damaged or renamed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from seqnorm_monai.images.dicom import PixelDecodeError, SeriesError
from seqnorm_monai.images.dicom.series import ScannedStudies, read_studies
from seqnorm_monai.images.sources import SourceFile, open_sources
from tests.images.dicom.references import by_itk, itk_order
from tests.makers.bundles import SHARED
from tests.makers.reading import load_volume
from tests.makers.slice_files import Grid, item, random_values, write_classic, write_enhanced
from tests.makers.studies import SECRETS, SERIES, STUDY

PAIR = SHARED / "data" / "mri_dicom_pgbm" / "Study1"
needs_pair = pytest.mark.skipif(not PAIR.is_dir(), reason="development data")


def read(folder: Path) -> ScannedStudies:
    with open_sources(folder) as sources:
        report = read_studies(sources.files, sources.refused)
    on_disk = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    assert sorted(record.path for record in report.files) == on_disk
    text = repr([(record.reason, record.path) for record in report.files])
    assert not any(secret in text for secret in SECRETS)
    return report


def statuses(report: ScannedStudies) -> dict[str, int]:
    found = [record.status for record in report.files]
    return {status: found.count(status) for status in sorted(set(found))}


def edit(path: Path, **attributes: Any) -> None:  # noqa: ANN401
    dataset = pydicom.dcmread(path)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


@needs_pair
def test_the_real_pair() -> None:
    """Two series of a GE scanner: places and values as ITK has them, and the enhancement right to the pixel."""
    report = read(PAIR)
    assert statuses(report) == {"used": 44}
    assert len(report.volumes) == 2
    ours, theirs = {}, {}
    for volume in report.volumes:
        folder = PAIR / Path(volume.files[0]).parent
        kind = "post" if "post" in folder.name else "pre"
        tensor = load_volume(volume)
        array, affine = by_itk(itk_order(folder))
        np.testing.assert_array_equal(tensor[0].numpy(), array)
        np.testing.assert_allclose(tensor.affine, affine, atol=1e-6)
        ours[kind], theirs[kind] = tensor[0].numpy(), array
    difference = ours["post"] - ours["pre"]
    np.testing.assert_array_equal(difference, theirs["post"] - theirs["pre"])
    assert difference.max() > 0


@needs_pair
def test_the_real_pair_in_one_folder_with_other_names(tmp_path: Path) -> None:
    files = sorted(PAIR.rglob("*.dcm"))
    for number, place in enumerate(np.random.default_rng(0).permutation(len(files))):
        shutil.copy(files[place], tmp_path / f"{number:08X}")
    expected = {volume.series_instance_uid: load_volume(volume) for volume in read(PAIR).volumes}
    volumes = read(tmp_path).volumes
    assert len(volumes) == 2
    for volume in volumes:
        np.testing.assert_array_equal(load_volume(volume).numpy(), expected[volume.series_instance_uid].numpy())


def test_values_and_places_of_nested_and_mixed_series(tmp_path: Path) -> None:
    first, second = random_values(1), random_values(1, (7, 3, 5))
    grid = Grid(origin=(1.5, 2.5, 3.5), spacing=(0.5, 0.25, 3.0))
    write_classic(tmp_path / "a" / "b", first)
    paths = write_classic(tmp_path / "c", second, grid, series="1.2.3.23")
    for number, path in enumerate(paths.values()):
        # one series over many folders, and into that of the other
        target = tmp_path / "a" / "b" / f"x{number % 2}" / f"{number}.bin"
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    report = read(tmp_path)
    assert statuses(report) == {"used": 9}
    one, two = report.volumes
    assert (one.study_instance_uid, one.series_instance_uid, two.series_instance_uid) == (STUDY, SERIES, "1.2.3.23")
    np.testing.assert_array_equal(load_volume(one).numpy(), first)
    np.testing.assert_array_equal(load_volume(two).numpy(), second)
    np.testing.assert_allclose(load_volume(two).affine, grid.affine)
    array, affine = by_itk([Path(plane.path) for plane in two.planes])
    np.testing.assert_array_equal(load_volume(two)[0].numpy(), array)
    np.testing.assert_allclose(load_volume(two).affine, affine, atol=1e-6)


def test_a_missing_slice_is_named(tmp_path: Path) -> None:
    paths = write_classic(tmp_path, random_values(1, (5, 6, 4)))
    paths[0, 2].unlink()
    report = read(tmp_path)
    assert statuses(report) == {"rejected": 3}
    (series,) = report.series
    (error,) = series.errors
    assert isinstance(error, SeriesError)
    assert error.reason == ("its series is refused: 1 slice missing between -2.50 and 2.50 mm, usual distance 2.50 mm")
    assert set(error.files) == {record.path for record in report.files}


def test_a_slice_that_one_phase_lacks_is_named(tmp_path: Path) -> None:
    paths = write_classic(tmp_path, random_values(3), attributes=lambda p, z: {"TemporalPositionIdentifier": p + 1})
    paths[1, 3].unlink()
    report = read(tmp_path)
    assert statuses(report) == {"rejected": 11}
    assert "temporal position 2: no slice at 2.50 mm, where other phases have one" in report.files[0].reason


def test_copies_are_set_aside(tmp_path: Path) -> None:
    values = random_values(1)
    paths = write_classic(tmp_path / "one", values)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    report = read(tmp_path)
    assert statuses(report) == {"set_aside": 4, "used": 4}
    name = paths[0, 0].name
    assert {record.path: record.reason for record in report.files}[f"two/{name}"] == f"a copy of one/{name}"
    np.testing.assert_array_equal(load_volume(report.volumes[0]).numpy(), values)


def test_a_copy_in_another_transfer_syntax_is_a_copy(tmp_path: Path) -> None:
    values = random_values(1)
    paths = write_classic(tmp_path, values)
    dataset = pydicom.dcmread(paths[0, 2])
    dataset.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)
    dataset.save_as(tmp_path / "0 rle")
    report = read(tmp_path)
    assert statuses(report) == {"set_aside": 1, "used": 4}
    np.testing.assert_array_equal(load_volume(report.volumes[0]).numpy(), values)


@pytest.mark.parametrize("what", ["pixels", "place"])
def test_two_images_of_one_uid_are_refused(tmp_path: Path, what: str) -> None:
    paths = write_classic(tmp_path, random_values(1))
    other = tmp_path / "other"
    shutil.copy(paths[0, 2], other)
    dataset = pydicom.dcmread(other)
    if what == "pixels":
        edit(other, PixelData=bytes(len(dataset.PixelData)))
    else:
        edit(other, ImagePositionPatient=[-10, 20, 99])
    report = read(tmp_path)
    assert statuses(report) == {"rejected": 5}
    reasons = {record.path: record.reason for record in report.files}
    assert reasons["other"] == f"the same SOPInstanceUID as {paths[0, 2].name}, with other content (keep the right one)"
    assert reasons[paths[0, 0].name].startswith("its series is refused: one of its files cannot be used, ")


def test_a_second_slice_at_one_place_is_refused(tmp_path: Path) -> None:
    paths = write_classic(tmp_path, random_values(1))
    shutil.copy(paths[0, 1], tmp_path / "again")
    edit(tmp_path / "again", SOPInstanceUID="1.2.3.999")
    report = read(tmp_path)
    assert statuses(report) == {"rejected": 5}
    assert "1 to 2 slices lie at one position and nothing tells phases apart" in report.files[0].reason


def test_a_truncated_file_refuses_its_series_and_no_other(tmp_path: Path) -> None:
    paths = write_classic(tmp_path / "a", random_values(1))
    values = random_values(2)
    write_classic(
        tmp_path / "b", values, series="1.2.3.23", attributes=lambda p, z: {"TemporalPositionIdentifier": p + 1}
    )
    paths[0, 1].write_bytes(paths[0, 1].read_bytes()[:-9])
    report = read(tmp_path)
    assert statuses(report) == {"rejected": 4, "used": 8}
    reasons = {record.path: record.reason for record in report.files if record.status == "rejected"}
    cut = f"a/{paths[0, 1].name}"
    assert reasons.pop(cut) == "the pixel data are cut off: 51 bytes instead of 60"
    assert set(reasons.values()) == {
        f"its series is refused: one of its files cannot be used, {cut}: the pixel data are cut off: 51 bytes instead "
        "of 60 (check that the series was copied or exported as a whole)"
    }
    assert [volume.series_instance_uid for volume in report.volumes] == ["1.2.3.23"] * 2


def test_a_good_copy_replaces_a_damaged_one(tmp_path: Path) -> None:
    values = random_values(1)
    paths = write_classic(tmp_path / "a", values)
    shutil.copy(paths[0, 1], tmp_path / "z good")
    paths[0, 1].write_bytes(paths[0, 1].read_bytes()[:-9])
    report = read(tmp_path)
    assert statuses(report) == {"rejected": 1, "used": 4}
    np.testing.assert_array_equal(load_volume(report.volumes[0]).numpy(), values)


def test_damage_that_the_header_does_not_show(tmp_path: Path) -> None:
    """It comes out when the pixels are decoded, as an error of that file."""
    paths = write_classic(tmp_path, random_values(1, (40, 40, 3)))
    dataset = pydicom.dcmread(paths[0, 1])
    dataset.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)
    dataset.save_as(paths[0, 1])
    data = bytearray(paths[0, 1].read_bytes())
    # runs of RLE that end too early
    data[-400:-10] = b"\x80" * 390
    paths[0, 1].write_bytes(data)
    report = read(tmp_path)
    assert statuses(report) == {"used": 3}
    with pytest.raises(PixelDecodeError, match=paths[0, 1].name):
        load_volume(report.volumes[0])


def test_slices_that_lost_their_common_frame_of_reference_are_refused(tmp_path: Path) -> None:
    write_classic(tmp_path, random_values(1), attributes=lambda p, z: {"FrameOfReferenceUID": f"1.2.3.4.{z}"})
    report = read(tmp_path)
    assert statuses(report) == {"rejected": 4}
    assert "4 slices, each with a FrameOfReferenceUID of its own" in report.files[0].reason


def test_files_without_uids_stand_alone(tmp_path: Path) -> None:
    paths = write_classic(tmp_path, random_values(1))
    for path in paths.values():
        dataset = pydicom.dcmread(path)
        del dataset.SeriesInstanceUID
        dataset.save_as(path)
    report = read(tmp_path)
    assert statuses(report) == {"used": 4}
    assert [len(volume.files) for volume in report.volumes] == [1] * 4


def test_localizers_and_other_objects_are_set_aside(tmp_path: Path) -> None:
    values = random_values(1)
    paths = write_classic(tmp_path, values, series="1.2.3.23")
    scout = write_classic(tmp_path / "scout", random_values(1))
    for path in scout.values():
        edit(path, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    shutil.copy(paths[0, 0], tmp_path / "state")
    edit(tmp_path / "state", SOPClassUID="1.2.840.10008.5.1.4.1.1.11.1", SOPInstanceUID="1.2.3.71")
    report = read(tmp_path)
    assert statuses(report) == {"set_aside": 5, "used": 4}
    reasons = {record.reason for record in report.files if record.status == "set_aside"}
    assert reasons == {"a localizer (ImageType)", "a presentation state"}
    np.testing.assert_array_equal(load_volume(report.volumes[0]).numpy(), values)


def test_series_that_are_no_one_volume(tmp_path: Path) -> None:
    """Other sizes, spacings or orientations within a series are volumes of their own; a small tilt is a mistake."""
    values = random_values(1)
    turned = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])
    write_classic(tmp_path / "axial", values)
    write_classic(tmp_path / "coronal", values, Grid(rotation=turned))
    write_classic(tmp_path / "fine", values, Grid(spacing=(0.5, 0.5, 2.5)))
    for number, path in enumerate(sorted(tmp_path.rglob("IM*"))):
        edit(path, SOPInstanceUID=f"1.2.3.83.{number}")
    report = read(tmp_path)
    assert statuses(report) == {"used": 12}
    assert len(report.series) == 1
    assert len(report.volumes) == 3
    angle = np.radians(1.0)
    rotation = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    paths = write_classic(tmp_path / "tilted", values, Grid(rotation=rotation))
    for number, path in enumerate(paths.values()):
        edit(path, SOPInstanceUID=f"1.2.3.89.{number}")
    report = read(tmp_path)
    assert all("tilted against each other by 1.00 degrees" in record.reason for record in report.files)
    assert report.volumes == ()


def test_a_tilted_gantry_keeps_its_true_affine(tmp_path: Path) -> None:
    grid = Grid(drift=0.4)
    values = random_values(1)
    write_classic(tmp_path, values, grid)
    (volume,) = read(tmp_path).volumes
    assert volume.sheared
    np.testing.assert_allclose(load_volume(volume).affine, grid.affine, rtol=1e-9)


def test_a_file_of_which_a_part_is_refused_is_used_and_says_so(tmp_path: Path) -> None:
    """Two stacks in one enhanced file; in the second every slice is there twice."""
    values = random_values(3)
    write_enhanced(
        tmp_path / "e.dcm", values, groups=lambda p, z: {"FrameContentSequence": item(StackID="1" if p == 0 else "2")}
    )
    report = read(tmp_path)
    (record,) = report.files
    assert record.status == "used"
    assert record.reason.startswith("in part, of other frames its series is refused: 2 slices lie at one position")
    (volume,) = report.volumes
    np.testing.assert_array_equal(load_volume(volume)[0].numpy(), values[0])


def test_modality_lookup_tables_of_slices(tmp_path: Path) -> None:
    """Each slice has its own (PS3.3 section C.11.1)."""
    values = random_values(1)
    paths = write_classic(tmp_path, values)
    for (_, z), path in paths.items():
        table = (np.arange(1000) * 3 + z).astype("<u2").tobytes()
        lut = item(LUTDescriptor=[1000, 0, 16], LUTData=table, ModalityLUTType="US")
        lut[0]["LUTDescriptor"].VR, lut[0]["LUTData"].VR = "US", "OW"
        edit(path, ModalityLUTSequence=lut)
    (volume,) = read(tmp_path).volumes
    np.testing.assert_array_equal(load_volume(volume).numpy(), values * 3.0 + np.arange(4))


def test_names_must_differ(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two files have the name 'a'"):
        read_studies([SourceFile("a", tmp_path / "a"), SourceFile("a", tmp_path / "b")])


def test_many_headers_are_read_by_processes(tmp_path: Path) -> None:
    values = random_values(20)
    write_classic(tmp_path, values, attributes=lambda p, z: {"TemporalPositionIdentifier": p + 1})
    (tmp_path / "page.html").write_text("<html>")
    with open_sources(tmp_path) as sources:
        alone, together = (read_studies(sources.files, sources.refused, num_workers=n) for n in (0, 2))
    assert alone == together
    assert len(together.volumes) == 20
