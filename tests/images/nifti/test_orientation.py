"""NIfTI: where the voxels are, by sform, qform or neither."""

from __future__ import annotations

import logging
import subprocess
import sys

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

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
    assert (volume.orientation_source, volume.warnings) == ("qform", ())
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
    assert (volume.orientation_source, volume.warnings) == ("sform", ("sform and qform differ: the sform is used",))
    np.testing.assert_array_equal(volume.affine, AFFINE)
    for row, value in (("srow_y", 0), ("srow_x", np.nan)):
        (volume,) = read_nifti(header_of(path, lambda header: header.__setitem__(row, value)))  # noqa: B023
        assert (volume.orientation_source, volume.warnings) == ("qform", ("the sform is singular or not finite",))
        np.testing.assert_allclose(volume.affine, oblique(1.0), rtol=1e-5, atol=1e-5)


def test_no_orientation(make_nifti: Make) -> None:
    def change(header: nibabel.Nifti1Header) -> None:
        header["sform_code"] = header["qform_code"] = 0
        header["pixdim"][1:4] = 1.5, 0.5, 2

    path = header_of(make_nifti(ramp("u1")), change)
    (volume,) = read_nifti(path)
    assert volume.orientation_source == "pixdim" and "not stated" in volume.warnings[0]
    assert load_nifti(volume).meta["has_geometry"] is False
    np.testing.assert_array_equal(volume.affine, np.diag([1.5, 0.5, 2, 1]))
    assert "no place" in refusal(header_of(path, lambda header: header["pixdim"].__setitem__(2, np.nan)))


@pytest.mark.parametrize(("unit", "to_mm"), [("meter", 1000), ("micron", 0.001), ("mm", 1), ("unknown", 1)])
def test_units(make_nifti: Make, unit: str, to_mm: float) -> None:
    path = header_of(make_nifti(ramp("u1")), lambda header: header.set_xyzt_units(unit))
    (volume,) = read_nifti(path)
    np.testing.assert_allclose(volume.affine, np.diag([to_mm] * 3 + [1]) @ AFFINE)
    assert len(volume.warnings) == (to_mm != 1)


UNIT = st.floats(-1, 1, width=32)
MM = st.floats(-300, 300, width=32)


@settings(
    deadline=None, max_examples=300, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    quaternion=st.lists(UNIT, min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1),
    pixdim=st.lists(st.floats(-20, 20, width=32).filter(lambda mm: abs(mm) > 0.1), min_size=3, max_size=3),
    qfac=st.sampled_from([1, -1, 0]),
    offset=st.lists(MM, min_size=3, max_size=3),
    srow=st.lists(MM, min_size=12, max_size=12),
    codes=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    flat=st.booleans(),
)
def test_any_header_equals_nibabel(
    make_nifti: Make,
    caplog: pytest.LogCaptureFixture,
    quaternion: list[float],
    pixdim: list[float],
    qfac: int,
    offset: list[float],
    srow: list[float],
    codes: tuple[int, int],
    flat: bool,
) -> None:
    """Where a header says where the voxels are: after nibabel's own repairs, its `get_best_affine`."""
    matrix = np.array(srow).reshape(3, 4)
    lengths = np.linalg.norm(matrix[:, :3], axis=0)
    assume(lengths.min() > 0.1 and abs(np.linalg.det(matrix[:, :3] / lengths)) > 1e-3)

    def change(header: nibabel.Nifti1Header) -> None:
        unit = np.array(quaternion) / np.linalg.norm(quaternion) * (1 if quaternion[0] >= 0 else -1)
        header["sform_code"], header["qform_code"] = codes
        header["quatern_b"], header["quatern_c"], header["quatern_d"] = unit[1:]
        header["qoffset_x"], header["qoffset_y"], header["qoffset_z"] = offset
        header["srow_x"], header["srow_y"], header["srow_z"] = matrix
        header["pixdim"][:4] = qfac, *pixdim
        if flat:
            header["pixdim"][3] = 0

    path = header_of(make_nifti(ramp("u1", (5, 7) if flat else (5, 7, 3))), change)
    (volume,) = read_nifti(path)
    # it logs every repair
    caplog.set_level(logging.CRITICAL, "nibabel.global")
    header = nibabel.load(path).header
    if codes == (0, 0):
        assert volume.orientation_source == "pixdim"
        np.testing.assert_allclose(volume.spacing, header.get_zooms() + ((1.0,) if flat else ()), rtol=1e-6)
        return
    assert volume.orientation_source == ("sform" if codes[0] else "qform")
    np.testing.assert_allclose(volume.affine, header.get_best_affine(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("code", [0, 1])
def test_two_dimensions_leave_the_third_spacing_out(make_nifti: Make, code: int) -> None:
    """pixdim[3] is 0 in such files; of an axis of several voxels, 0 is worth a word."""

    def change(header: nibabel.Nifti1Header) -> None:
        header["sform_code"], header["qform_code"] = 0, code
        header["pixdim"][1:4] = 0.5, -0.75, 0

    path = header_of(make_nifti(ramp("i2", (5, 7))), change)
    (volume,) = read_nifti(path)
    assert volume.spacing == (0.5, 0.75, 1.0)
    assert volume.orientation_source == ("qform" if code else "pixdim")
    assert load_nifti(volume).shape == (1, 5, 7)
    assert "a spacing of 0 is taken for 1" not in volume.warnings
    (volume,) = read_nifti(header_of(make_nifti(ramp("i2", (5, 7, 3))), change))
    assert volume.spacing == (0.5, 0.75, 1.0)
    assert "a spacing of 0 is taken for 1" in volume.warnings


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.parametrize("pixdim", [(0, 0, 0), (0.5, 0, 2), (-0.5, 0, -2)])
def test_lengths_equal_nibabel(
    make_nifti: Make, caplog: pytest.LogCaptureFixture, code: int, pixdim: tuple[float, ...]
) -> None:
    def change(header: nibabel.Nifti1Header) -> None:
        header["sform_code"], header["qform_code"] = 0, code
        header["pixdim"][1:4] = pixdim

    path = header_of(make_nifti(ramp("i2")), change)
    (volume,) = read_nifti(path)
    # it logs every repair
    caplog.set_level(logging.CRITICAL, "nibabel.global")
    header = nibabel.load(path).header
    assert volume.spacing == tuple(map(float, header.get_zooms()))
    if code:
        np.testing.assert_allclose(volume.affine, header.get_best_affine())


@pytest.mark.parametrize(
    ("shape", "column", "expected"), [((5, 7), 2, [0, 0, 1]), ((5, 1, 7), 1, [0, 1, 0]), ((1, 5, 7), 0, [1, 0, 0])]
)
def test_an_sform_without_a_third_direction(
    make_nifti: Make, shape: tuple[int, ...], column: int, expected: list[float]
) -> None:
    """Two-dimensional files leave it out; nibabel keeps the zeros, which no spacing comes from."""

    def change(header: nibabel.Nifti1Header) -> None:
        header["sform_code"], header["qform_code"] = 1, 0
        matrix = np.array([[0.5, 0, 0, 3], [0, 0.75, 0, 4], [0, 0, 2, 5]])
        matrix[:, column] = 0
        header["srow_x"], header["srow_y"], header["srow_z"] = matrix

    path = header_of(make_nifti(ramp("i2", shape)), change)
    (volume,) = read_nifti(path)
    assert (volume.orientation_source, volume.warnings) == ("sform", ())
    np.testing.assert_array_equal(volume.affine[:3, column], expected)
    others = [axis for axis in range(4) if axis != column]
    np.testing.assert_array_equal(volume.affine[:, others], nibabel.load(path).affine[:, others])


def test_a_third_axis_of_no_voxels(make_nifti: Make) -> None:
    """As the NIfTI library and ITK read it: one slice. An image of no columns stays none."""
    stored = ramp("i2", (5, 7, 1))
    path = header_of(make_nifti(stored), lambda header: header["dim"].__setitem__(slice(0, 4), [3, 5, 7, 0]))
    (volume,) = read_nifti(path)
    np.testing.assert_array_equal(load_nifti(volume)[0].numpy(), stored[..., 0])
    assert "without voxels" in refusal(header_of(path, lambda header: header["dim"].__setitem__(2, 0)))


def test_start_up_without_nibabel() -> None:
    """It takes a third of a second, and most runs meet no NIfTI file."""
    code = "import sys, seqnorm_monai.images.__main__; print('nibabel' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
