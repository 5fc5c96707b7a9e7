"""NIfTI files out of series: nibabel and our own reader find the values and the places of `load_volume`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import CTImageStorage

from seqnorm_monai.images.export import save_nifti, write_nifti
from seqnorm_monai.images.image_array import ImageArray
from seqnorm_monai.images.inventory import take_inventory
from seqnorm_monai.images.nifti import read_nifti
from seqnorm_monai.images.sources import open_sources
from tests.makers.dicom_files import ramp
from tests.makers.studies import SECRETS, write_phases

Make = Callable[..., Path]
# a turn about an axis that is none of the patient's
OBLIQUE = nibabel.quaternions.quat2mat([0.9, 0.3, -0.2, 0.24])


def image_of(pixels: np.ndarray, affine: np.ndarray | None = None) -> ImageArray:
    return ImageArray("", pixels, np.asarray(AFFINE if affine is None else affine, np.float64), True, {})


def reread(path: Path, expected: ImageArray) -> nibabel.Nifti1Image:
    """The file by both readers: values, shape and affine of `expected`."""
    (volume,) = read_nifti(path)
    ours = volume.read()
    shape = expected.pixels.shape
    assert ours.pixels.dtype == np.float32 and ours.pixels.shape == shape
    np.testing.assert_array_equal(ours.pixels, expected.pixels)
    np.testing.assert_allclose(ours.affine, expected.affine, rtol=1e-6, atol=1e-5)
    image = nibabel.load(path)
    data = np.asarray(image.dataobj)
    if data.dtype.fields:
        data = np.stack([data[name] for name in data.dtype.fields])
    elif data.ndim == 5:
        data = np.moveaxis(data[..., 0, :], -1, 0)
    np.testing.assert_array_equal(data.reshape(shape), expected.pixels)
    np.testing.assert_allclose(image.affine, expected.affine, rtol=1e-6, atol=1e-5)
    return image


def saved(image: ImageArray, path: Path, *, placed: bool = True) -> nibabel.Nifti1Image:
    with path.open("wb") as stream:
        save_nifti(image, stream, placed=placed)
    return reread(path, image)


def exported(source: Path, folder: Path) -> dict[str, nibabel.Nifti1Image]:
    """Every series below `source`, written and compared with what `load_volume` gives."""
    with open_sources(source) as sources:
        listing = take_inventory(sources)
        expected = [entry.read() for entry in listing.entries]
        paths = write_nifti(listing, folder)
        assert [folder / entry.row.nifti for entry in listing.entries] == paths
    assert sorted(folder.iterdir()) == sorted(set(paths)) and len(paths) == len(expected)
    for path in paths:
        assert not any(secret.encode() in nibabel.load(path).to_bytes() for secret in SECRETS)
    return {path.name: reread(path, image) for path, image in zip(paths, expected)}


def test_oblique_series(make_dicom: Make, tmp_path: Path) -> None:
    normal = np.cross(OBLIQUE[:, 0], OBLIQUE[:, 1])
    (tmp_path / "in").mkdir()
    for index in (2, 0, 3, 1):
        path = make_dicom(
            ramp(12) + index,
            SOPClassUID=CTImageStorage,
            SOPInstanceUID=f"1.2.3.11.{index}",
            Modality="CT",
            PixelSpacing=["0.5", "0.75"],
            ImageOrientationPatient=[f"{x:.10f}" for x in [*OBLIQUE[:, 0], *OBLIQUE[:, 1]]],
            ImagePositionPatient=[f"{x:.8f}" for x in np.array([-7, 11, 19]) + 2.5 * index * normal],
            RescaleSlope="0.25",
            RescaleIntercept="-1024",
        )
        path.rename(tmp_path / "in" / str(index))
    ((name, image),) = exported(tmp_path / "in", tmp_path / "out").items()
    assert name == "1.2.3.13_1.2.3.17.nii.gz"
    affine = np.eye(4)
    affine[:3] = np.column_stack([0.75 * OBLIQUE[:, 0], 0.5 * OBLIQUE[:, 1], 2.5 * normal, [-7, 11, 19]])
    np.testing.assert_allclose(image.affine, np.diag([-1, -1, 1, 1]) @ affine, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(image.get_qform(), image.affine, rtol=1e-4, atol=1e-4)
    assert image.get_data_dtype() == np.float32
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)


def test_phases_and_stacks(tmp_path: Path) -> None:
    values = write_phases(tmp_path / "in", 11)
    write_phases(tmp_path / "in" / "other", 2, ImageOrientationPatient=[0, 1, 0, 0, 0, 1], SeriesInstanceUID="1.2.3.23")
    images = exported(tmp_path / "in", tmp_path / "out")
    for phase in range(11):
        image = images[f"1.2.3.13_1.2.3.17_phase-{phase + 1:02}.nii.gz"]
        np.testing.assert_array_equal(np.asarray(image.dataobj), values[phase])
        assert image.get_data_dtype() == np.int16


@pytest.mark.parametrize("name", ["MR_small.dcm", "693_J2KI.dcm", "examples_rgb_color.dcm", "examples_palette.dcm"])
def test_real_files(name: str, tmp_path: Path) -> None:
    """Axial, tilted, RGB and a palette, one slice each."""
    path = Path(get_testdata_file(name, download=False))
    (image,) = exported(path, tmp_path / "out").values()
    assert image.shape[2] == 1 and image.shape[:2] == dcmread(path).pixel_array.shape[1::-1]
    # without a place in the patient the coordinates are not the scanner's
    assert int(image.header["sform_code"]) == (1 if "." not in name or "ImagePositionPatient" in dcmread(path) else 2)


AFFINE = np.array([[0, -2.0, 0.1, 3], [1.5, 0, 0, 5], [0, 0.1, 3, 7], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0, 255], "u1"),
        ([-1, 32767], "i2"),
        ([0, 65535], "u2"),
        ([-1, 32768], "f4"),
        ([0, 65536], "f4"),
        ([0.5, 7], "f4"),
        ([np.nan, 1], "f4"),
        ([np.inf, 1], "f4"),
        ([-1e30, 1e30], "f4"),
    ],
)
def test_smallest_exact_type(values: list[float], dtype: str, tmp_path: Path) -> None:
    image = image_of(np.tile(np.array(values, np.float32).reshape(1, 1, 2, 1), (1, 3, 1, 5)))
    assert saved(image, tmp_path / "x.nii.gz").get_data_dtype() == np.dtype(dtype)


@pytest.mark.parametrize(("channels", "high"), [(3, 256), (3, 60000), (4, 256), (3, 0.5)])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_colour(channels: int, high: float, shape: tuple[int, ...], tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    values = random.random((channels, *shape)) if high < 1 else random.integers(0, int(high), (channels, *shape))
    image = image_of(values.astype(np.float32))
    kind = saved(image, tmp_path / "x.nii.gz").get_data_dtype()
    assert (kind.fields is not None) == (channels == 3 and high == 256)


def test_frames_beyond_an_axis_of_nifti_1(tmp_path: Path) -> None:
    image = image_of(np.tile(np.arange(40_000, dtype=np.float32).reshape(1, 1, 2, 20_000), (1, 1, 1, 2)))
    assert isinstance(saved(image, tmp_path / "x.nii.gz"), nibabel.Nifti2Image)


def test_sheared_affine_has_no_qform(tmp_path: Path) -> None:
    sheared = AFFINE.copy()
    sheared[1, 2] = 0.7
    written = saved(image_of(np.zeros((1, 5, 7, 3), np.float32), sheared), tmp_path / "x.nii.gz")
    assert (int(written.header["sform_code"]), int(written.header["qform_code"])) == (1, 0)


def test_same_image_same_bytes(tmp_path: Path) -> None:
    """Whatever the name and the time."""
    image = image_of(np.arange(105, dtype=np.float32).reshape(1, 5, 7, 3))
    paths = tmp_path / "one.nii.gz", tmp_path / "two.nii.gz"
    for path in paths:
        saved(image, path)
    first, second = (path.read_bytes() for path in paths)
    # the time in the header of gzip
    assert first == second and first[4:8] == bytes(4)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    quaternion=st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1),
    spacing=st.lists(st.floats(0.05, 20), min_size=3, max_size=3),
    origin=st.lists(st.floats(-500, 500), min_size=3, max_size=3),
    mirrored=st.booleans(),
)
def test_any_orientation(
    quaternion: list[float],
    spacing: list[float],
    origin: list[float],
    mirrored: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = nibabel.quaternions.quat2mat(quaternion) * spacing * [1, 1, -1 if mirrored else 1]
    affine[:3, 3] = origin
    image = image_of(np.arange(105, dtype=np.float32).reshape(1, 5, 7, 3), affine)
    path = tmp_path_factory.getbasetemp() / "any.nii.gz"
    written = saved(image, path)
    # a qform is there when it says the same to a part of a voxel
    if int(written.header["qform_code"]):
        far = np.abs(written.get_qform() - affine) @ [4, 6, 2, 1]
        assert far.max() < 0.02 * min(spacing)
