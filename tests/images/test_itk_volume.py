"""MetaImage and NRRD: the same voxels in the same places as ITK and the other readers give, or a refusal by name."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from seqnorm_monai.data import LoadRadiograph, find_images, load_image
from seqnorm_monai.images import open_sources, take_inventory
from seqnorm_monai.images.errors import ImageReadError
from tests.makers.marks import MARK, marks_in

SHAPE, SPACING, ORIGIN = (5, 4, 3), (0.5, 0.7, 3.0), (-11.0, 13.0, 17.0)


@pytest.fixture(scope="module")
def itk() -> Any:  # noqa: ANN401
    # SWIG types warn when they are made, and an exception at that point ends the process
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import itk

        itk.Image[itk.F, 3].New()
        return itk


def turned() -> np.ndarray:
    """A rotation about an oblique axis: the directions of the three axes in LPS."""
    angle = np.deg2rad(25)
    one = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    two = np.array([[1, 0, 0], [0, np.cos(0.3), -np.sin(0.3)], [0, np.sin(0.3), np.cos(0.3)]])
    return one @ two


def values(dtype: str = "<i2", channels: int = 1) -> np.ndarray:
    """(z, y, x[, channels])"""
    shape = (*SHAPE[::-1], channels) if channels > 1 else SHAPE[::-1]
    return (np.arange(np.prod(shape)) % 120).reshape(shape).astype(dtype)


def write(itk: Any, path: Path, array: np.ndarray, *, vector: bool = False, compression: bool = False) -> Path:  # noqa: ANN401
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = itk.image_from_array(array, is_vector=vector)
        dims = image.GetImageDimension()
        image.SetSpacing(SPACING[:dims])
        image.SetOrigin(ORIGIN[:dims])
        if dims == 3:
            image.SetDirection(itk.matrix_from_array(turned()))
        itk.imwrite(image, str(path), compression=compression)
    return path


def truth() -> np.ndarray:
    """Voxels to mm in RAS."""
    matrix = np.eye(4)
    matrix[:3, :3] = turned() @ np.diag(SPACING)
    matrix[:3, 3] = ORIGIN
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix


@pytest.mark.parametrize("suffix", ["mha", "mhd", "nrrd", "nhdr"])
@pytest.mark.parametrize("dtype", ["<i2", "<u2", "u1", "<f4", "<f8"])
@pytest.mark.parametrize("compression", [False, True])
def test_voxels_and_places(itk: Any, tmp_path: Path, suffix: str, dtype: str, compression: bool) -> None:  # noqa: ANN401
    path = write(itk, tmp_path / f"a.{suffix}", values(dtype), compression=compression)
    image = load_image(path)
    assert np.array_equal(image.numpy()[0], values(dtype).transpose(2, 1, 0))
    np.testing.assert_allclose(image.affine.numpy(), truth(), atol=1e-6)
    assert image.meta["has_geometry"]


@pytest.mark.parametrize("suffix", ["mha", "nrrd"])
def test_colour_and_two_dimensions(itk: Any, tmp_path: Path, suffix: str) -> None:  # noqa: ANN401
    colour = write(itk, tmp_path / f"c.{suffix}", values("u1", 3), vector=True)
    assert np.array_equal(load_image(colour).numpy(), values("u1", 3).transpose(3, 2, 1, 0))
    flat = write(itk, tmp_path / f"f.{suffix}", values()[0])
    image = load_image(flat)
    assert image.shape == (1, 5, 4)
    assert not image.meta["has_geometry"]


def test_the_same_as_nifti(itk: Any, tmp_path: Path) -> None:  # noqa: ANN401
    path = write(itk, tmp_path / "a.nrrd", values())
    nibabel.save(nibabel.Nifti1Image(values().transpose(2, 1, 0), truth()), tmp_path / "a.nii.gz")
    one, two = load_image(path), load_image(tmp_path / "a.nii.gz")
    assert np.array_equal(one.numpy(), two.numpy())
    np.testing.assert_allclose(one.affine.numpy(), two.affine.numpy(), atol=1e-5)


def test_both_files_of_a_pair_are_one_image(itk: Any, tmp_path: Path) -> None:  # noqa: ANN401
    write(itk, tmp_path / "a.mhd", values())
    write(itk, tmp_path / "b.nhdr", values())
    write(itk, tmp_path / "c.mha", values())
    items = find_images(tmp_path)
    assert sorted(len(item["files"]) for item in items) == [1, 2, 2]
    assert not [item for item in items if "unreadable" in item]
    with open_sources(tmp_path) as sources:
        rows = take_inventory(sources).rows
    assert [(row.format, row.shape, row.files) for row in rows] == [
        ("MetaImage", SHAPE, 2),
        ("NRRD", SHAPE, 2),
        ("MetaImage", SHAPE, 1),
    ]
    assert {row.study for row in rows} == {1}


@pytest.mark.parametrize("suffix", ["mha", "mhd", "nrrd", "nhdr"])
@pytest.mark.parametrize("compression", [False, True])
def test_cut_off_files_are_refused(itk: Any, tmp_path: Path, suffix: str, compression: bool) -> None:  # noqa: ANN401
    path = write(itk, tmp_path / f"a.{suffix}", values(), compression=compression)
    voxels = next((other for other in tmp_path.iterdir() if other != path), path)
    voxels.write_bytes(voxels.read_bytes()[:-9])
    with pytest.raises(ImageReadError, match="cut off or damaged"):
        load_image(path)


def test_other_damage_is_refused(itk: Any, tmp_path: Path) -> None:  # noqa: ANN401
    path = write(itk, tmp_path / "a.mhd", values())
    next(other for other in tmp_path.iterdir() if other != path).unlink()
    (tmp_path / "b.mha").write_text("ObjectType = Image\nNDims = 3\nDimSize = 4 x 2\nElementDataFile = LOCAL\n")
    (tmp_path / "c.nrrd").write_text("NRRD0004\ntype: short\n\n")
    for name in ("a.mhd", "b.mha", "c.nrrd"):
        with pytest.raises(ImageReadError) as refused:
            load_image(tmp_path / name)
        assert "damaged" in refused.value.reason, name


def test_four_dimensions_are_refused(itk: Any, tmp_path: Path) -> None:  # noqa: ANN401
    header = "NRRD0004\ntype: short\ndimension: 4\nsizes: 2 2 2 2\nencoding: raw\nendian: little\n\n"
    (tmp_path / "a.nrrd").write_bytes(header.encode() + bytes(32))
    with pytest.raises(ImageReadError, match="has 4 dimensions, read are 2 and 3"):
        load_image(tmp_path / "a.nrrd")


def test_texts_of_the_header_are_not_read(itk: Any, tmp_path: Path) -> None:  # noqa: ANN401
    path = write(itk, tmp_path / "a.nrrd", values())
    content = path.read_bytes()
    place = content.index(b"\n\n")
    path.write_bytes(content[:place] + f"\nPatientName:={MARK}^A\n# {MARK} comment".encode() + content[place:])
    image = load_image(path)
    assert marks_in(repr(image.meta).encode()) == []
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ImageReadError) as refused:
        load_image(path)
    assert marks_in(str(refused.value).encode()) == []


def test_a_volume_is_no_radiograph(itk: Any, tmp_path: Path) -> None:  # noqa: ANN401
    with pytest.raises(ImageReadError, match="a NRRD file, no radiograph"):
        LoadRadiograph()(write(itk, tmp_path / "a.nrrd", values()))


def test_a_name_is_not_enough(tmp_path: Path) -> None:
    (tmp_path / "a.mha").write_text("to do")
    (item,) = find_images(tmp_path)
    assert "not a DICOM file" in item["unreadable"]
