"""NIfTI: where the voxels are, by sform, qform or neither."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from seqnorm_monai.images.nifti import read_nifti
from tests.makers.nifti import AFFINE, Make, header_of, ramp, refusal, same_as_monai
from tests.makers.reading import load_nifti

OBLIQUE = nibabel.quaternions.quat2mat([0.9, 0.3, -0.2, 0.24]) @ np.diag([1.5, 0.5, -2.0])


def test_orientations(make_nifti: Make) -> None:
    stored = ramp("u1")
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        for signs in np.ndindex(2, 2, 2):
            affine = np.eye(4)
            affine[:3, :3] = (np.diag([1.5, 0.5, 2.25]) * (1 - 2 * np.array(signs)))[list(order)]
            affine[:3, 3] = 3, -5, 7
            same_as_monai(make_nifti(stored, affine))


def oblique(sign: float) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = OBLIQUE * [1, 1, sign]
    affine[:3, 3] = -13, 11, 19
    return affine


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_qform_alone(make_nifti: Make, sign: float) -> None:
    def change(header: nibabel.Nifti1Header) -> None:
        header.set_qform(oblique(sign), code=1)
        header["sform_code"] = 0
        header["srow_x"] = 99

    path = header_of(make_nifti(ramp("u1")), change)
    (volume,) = read_nifti(path)
    assert (volume.orientation_source, volume.notes) == ("qform", ())
    np.testing.assert_allclose(volume.affine, oblique(sign), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(volume.spacing, [1.5, 0.5, 2.0], rtol=1e-5)
    same_as_monai(path)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_half_turns(make_nifti: Make, axis: int) -> None:
    """The quaternion's first number is 0 here, and what rounding leaves of it is nothing."""
    affine = np.diag([-1.0, -1, -1, 1])
    affine[axis, axis] = 1
    path = header_of(make_nifti(ramp("u1")), lambda header: header.set_qform(affine, code=1))
    (volume,) = read_nifti(header_of(path, lambda header: header.__setitem__("sform_code", 0)))
    np.testing.assert_array_equal(volume.affine, affine)


def test_sform_before_qform(make_nifti: Make) -> None:
    def change(header: nibabel.Nifti1Header) -> None:
        header.set_qform(oblique(1.0), code=1)
        header.set_sform(AFFINE, code=2)

    path = header_of(make_nifti(ramp("u1")), change)
    (volume,) = read_nifti(path)
    assert (volume.orientation_source, volume.notes) == ("sform", ("sform and qform differ: the sform is used",))
    np.testing.assert_array_equal(volume.affine, AFFINE)
    for row, value in (("srow_y", 0), ("srow_x", np.nan)):
        (volume,) = read_nifti(header_of(path, lambda header: header.__setitem__(row, value)))  # noqa: B023
        assert (volume.orientation_source, volume.notes) == ("qform", ("the sform is singular or not finite",))
        np.testing.assert_allclose(volume.affine, oblique(1.0), rtol=1e-5, atol=1e-5)


def test_no_orientation(make_nifti: Make) -> None:
    def change(header: nibabel.Nifti1Header) -> None:
        header["sform_code"] = header["qform_code"] = 0
        header["pixdim"][1:4] = 1.5, 0.5, 2

    path = header_of(make_nifti(ramp("u1")), change)
    (volume,) = read_nifti(path)
    assert volume.orientation_source == "pixdim" and "not stated" in volume.notes[0]
    assert load_nifti(volume).meta["has_geometry"] is False
    np.testing.assert_array_equal(volume.affine, np.diag([1.5, 0.5, 2, 1]))
    assert "no place" in refusal(header_of(path, lambda header: header["pixdim"].__setitem__(2, 0)))


@pytest.mark.parametrize(("unit", "to_mm"), [("meter", 1000), ("micron", 0.001), ("mm", 1), ("unknown", 1)])
def test_units(make_nifti: Make, unit: str, to_mm: float) -> None:
    path = header_of(make_nifti(ramp("u1")), lambda header: header.set_xyzt_units(unit))
    (volume,) = read_nifti(path)
    np.testing.assert_allclose(volume.affine, np.diag([to_mm] * 3 + [1]) @ AFFINE)
    assert len(volume.notes) == (to_mm != 1)
