"""NIfTI: the values of MONAI's reader, and every phase."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from seqnorm_monai.images.nifti import read_nifti
from tests.makers.bundles import SHARED
from tests.makers.nifti import SHAPE, Make, ramp, refusal, same_as_monai
from tests.makers.reading import load_nifti


@pytest.mark.parametrize("name", ["image.nii", "image.nii.gz"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"])
def test_equal_to_monai(make_nifti: Make, dtype: str, name: str) -> None:
    same_as_monai(make_nifti(ramp(dtype), name=name))


@pytest.mark.parametrize("dtype", ["i2", "f4", "u8", "i8"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("big_endian", [False, True])
def test_both_versions_and_byte_orders(make_nifti: Make, dtype: str, kind: type, big_endian: bool) -> None:
    stored = ramp(dtype)
    (volume,) = read_nifti(make_nifti(stored, kind=kind, big_endian=big_endian))
    np.testing.assert_array_equal(load_nifti(volume)[0].numpy(), stored.astype(np.float32))


def test_scaling(make_nifti: Make) -> None:
    same_as_monai(make_nifti(ramp("i2"), scl_slope=0.37, scl_inter=-1024.5))
    same_as_monai(make_nifti(ramp("f4"), scl_slope=3.0, scl_inter=0.1))
    stored = ramp("i2")
    for fields in ({"scl_slope": 0.0, "scl_inter": 5.0}, {"scl_slope": np.nan, "scl_inter": np.nan}):
        (volume,) = read_nifti(make_nifti(stored, **fields))
        np.testing.assert_array_equal(load_nifti(volume)[0].numpy(), stored)


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="development data")
def test_real_files() -> None:
    paths = sorted((SHARED / "data" / "mri_hippocampus" / "images").glob("*.nii.gz"))[:7]
    assert len(paths) == 7
    for path in paths:
        same_as_monai(path)


@pytest.mark.parametrize("name", ["a.hdr", "a.hdr.gz", "b.HDR"])
def test_pairs(make_nifti: Make, tmp_path: Path, name: str) -> None:
    stored = ramp("i2")
    path = make_nifti(stored, name=name.lower())
    if name == "b.HDR":
        (tmp_path / "b.hdr").rename(tmp_path / "b.HDR")
        path = tmp_path / "b.HDR"
    (volume,) = read_nifti(path)
    assert [file.name.lower() for file in volume.files] == [name.lower(), name.lower().replace("hdr", "img")]
    np.testing.assert_array_equal(load_nifti(volume)[0].numpy(), stored)
    volume.files[1].unlink()
    assert "the .img file" in refusal(path)


def test_phases(make_nifti: Make) -> None:
    stored = ramp("i2", (*SHAPE, 4))
    for name in ("image.nii", "image.nii.gz"):
        times = {"pixdim": [1, 2, 0.75, 3.5, 2000, 1, 1, 1], "xyzt_units": 2 + 16, "toffset": 500.0}
        path = make_nifti(stored, name=name, **times)
        volumes = read_nifti(path)
        assert [volume.phase_time for volume in volumes] == [0.5, 2.5, 4.5, 6.5]
        assert volumes[1].phase_label == "volume 2 of 4, 2.5 s"
        for index in (3, 0, 2, 1):
            assert volumes[index].phase_index == index and volumes[index].num_phases == 4
            np.testing.assert_array_equal(load_nifti(volumes[index])[0].numpy(), stored[..., index])


def test_fewer_and_more_axes(make_nifti: Make) -> None:
    for shape in ((5,), (5, 7), (5, 7, 3, 1), (5, 7, 3, 1, 1)):
        stored = ramp("u1", shape)
        (volume,) = read_nifti(make_nifti(stored))
        assert volume.shape == (*shape, 1, 1)[:3]
        tensor = load_nifti(volume)
        # one slice has no axis of slices
        expected = stored.reshape(volume.shape if len(shape) > 2 else volume.shape[:2])
        assert tensor.meta["spatial_shape"].tolist() == list(expected.shape)
        np.testing.assert_array_equal(tensor[0].numpy(), expected)
    assert "more than 4 dimensions" in refusal(make_nifti(ramp("u1", (5, 7, 3, 1, 2))))


@pytest.mark.parametrize(("code", "channels"), [(128, 3), (2304, 4)])
def test_colour(make_nifti: Make, code: int, channels: int) -> None:
    stored = ramp("u1", (*SHAPE, channels))
    data = stored.view([(name, "u1") for name in "RGBA"[:channels]])[..., 0]
    (volume,) = read_nifti(make_nifti(data, scl_slope=2.0, scl_inter=0.0))
    np.testing.assert_array_equal(load_nifti(volume).numpy(), np.moveaxis(stored, -1, 0))
    assert volume.channels == channels and int(volume.layout.fields["datatype"]) == code


def test_not_finite_and_bytes_behind(make_nifti: Make) -> None:
    stored = ramp("f4")
    stored[0, 0, 0], stored[1, 2, 2] = np.nan, np.inf
    path = make_nifti(stored)
    (volume,) = read_nifti(path)
    tensor = load_nifti(volume)
    np.testing.assert_array_equal(tensor[0].numpy(), stored)
    assert (tensor.meta["num_non_finite"], tensor.meta["bytes_after_voxels"]) == (2, False)
    path.write_bytes(path.read_bytes() + b"1")
    assert load_nifti(*read_nifti(path)).meta["bytes_after_voxels"]


def test_texts_of_the_header_stay_in_it(make_nifti: Make, capfd: pytest.CaptureFixture[str]) -> None:
    path = make_nifti(ramp("u1"), descrip=b"DOE^JANE", db_name=b"DOE^JANE", aux_file=b"DOE^JANE")
    tensor = load_nifti(*read_nifti(path))
    assert "DOE" not in str(tensor.meta) + os.fspath(tensor.meta["filename_or_obj"])
    assert capfd.readouterr() == ("", "")
