"""The affine of a NIfTI file: voxel index (i, j, k) -> mm to the right, front and top of the patient (RAS).

The rule, for a file with several answers (nifti1.h, "3D IMAGE ORIENTATION AND LOCATION"): the sform where sform_code
> 0 and the matrix can be inverted, else the qform where qform_code > 0, else the grid spacings alone (METHOD 1: nothing
is known of the orientation, and a note says so; nibabel flips the first axis there and centres the grid, ITK flips the
first two). nibabel, and MONAI with it, goes the same way, except that MONAI takes the qform where the sform contradicts
pixdim, and that both use a singular sform. ITK takes the spacings from pixdim even under an sform of other lengths, and
the qform under an sform with shears or with a code that is not that of the scanner.

Lengths: pixdim counts without its sign, and 0 counts as 1, as nibabel and ITK have it; on an axis of several voxels a
note says so. A column of zeros in the sform, on an axis of a single voxel, becomes the direction across the other two,
1 mm long: two-dimensional files leave it out. What is not a finite number is no spacing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seqnorm_monai.images.nifti.errors import NiftiReadError
from seqnorm_monai.images.nifti.header import Layout

# Two affines are told apart when a corner of the image is this far from itself, as a part of the smallest spacing.
TOLERANCE_VOXELS = 0.1
# Below this share of the product of its columns' lengths, the determinant is that of a flat grid.
_SINGULAR = 1e-6
# Rounding in single precision takes the quaternion of a half turn a little above length 1.
_ROUNDED = 1e-5


@dataclass(frozen=True)
class Orientation:
    """`affine` (4, 4) float64, RAS mm; `source`: "sform", "qform" or "pixdim"; `warnings` say what does not fit."""

    affine: npt.NDArray[np.float64]
    source: str
    warnings: tuple[str, ...]


def read_orientation(layout: Layout) -> Orientation:
    """The affine by the rule of this module. Raises NiftiReadError where no answer is usable."""
    header = layout.fields
    sform = _sform(layout) if int(header["sform_code"]) > 0 else None
    qform = _qform(layout) if int(header["qform_code"]) > 0 else None
    warnings = []
    if int(header["sform_code"]) > 0 and sform is None:
        warnings.append("the sform is singular or not finite")
    if int(header["qform_code"]) > 0 and qform is None:
        warnings.append("the qform is no rotation or has no spacings")
    if sform is not None and qform is not None and not _agree(sform, qform, layout.shape):
        warnings.append("sform and qform differ: the sform is used")
    source, affine = "sform", sform
    if affine is None:
        source, affine = "qform", qform
    if affine is None:
        source, affine = "pixdim", _usable(np.diag([*_spacings(layout), 1.0]))
        warnings.append("the orientation is not stated: the axes are taken for right, front and top")
    if affine is None:
        raise NiftiReadError(layout.path, "no usable sform, qform or pixdim: the voxels have no place")
    if source != "sform" and _is_invented(layout):
        warnings.append("a spacing of 0 is taken for 1")
    if layout.to_mm != 1.0:
        affine = np.diag([layout.to_mm] * 3 + [1.0]) @ affine
        warnings.append("lengths are in another unit than mm and were converted")
    return Orientation(affine, source, tuple(warnings))


def _sform(layout: Layout) -> npt.NDArray[np.float64] | None:
    affine = np.eye(4)
    for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
        affine[row] = layout.fields[name]
    absent = [axis for axis in range(3) if layout.shape[axis] == 1 and not affine[:3, axis].any()]
    if len(absent) == 1:
        one, other = np.delete(affine[:3, :3], absent[0], axis=1).T
        # so that the three are right-handed where the others are those of an image as it lies
        across = np.cross(one, other) * (-1.0 if absent[0] == 1 else 1.0)
        affine[:3, absent[0]] = across / (np.linalg.norm(across) or 1.0)
    return _usable(affine)


def _qform(layout: Layout) -> npt.NDArray[np.float64] | None:
    """Rotation from the quaternion (a, b, c, d) with a >= 0, spacings, and the third axis mirrored by pixdim[0] < 0."""
    # imported here: most runs meet no NIfTI file, and it takes a third of a second
    from nibabel.quaternions import quat2mat

    header = layout.fields
    bcd = np.array([header[f"quatern_{name}"] for name in "bcd"], dtype=np.float64)
    square = 1.0 - float(bcd @ bcd)
    if not square > -_ROUNDED:
        return None
    a = 0.0 if square < abs(header.quaternion_threshold) else np.sqrt(square)
    affine = np.eye(4)
    affine[:3, :3] = quat2mat([a, *bcd]) * _spacings(layout)
    affine[:3, 2] *= -1.0 if header["pixdim"][0] < 0 else 1.0
    affine[:3, 3] = [header[f"qoffset_{name}"] for name in "xyz"]
    return _usable(affine)


def _spacings(layout: Layout) -> npt.NDArray[np.float64]:
    """pixdim[1:4] without signs, and 1 for 0, as nibabel repairs a header."""
    spacings = np.abs(np.array(layout.fields["pixdim"][1:4], dtype=np.float64))
    spacings[spacings == 0] = 1.0
    return spacings


def _is_invented(layout: Layout) -> bool:
    """Whether pixdim has no length along an axis of several voxels."""
    pixdim = np.array(layout.fields["pixdim"][1:4])
    return bool(((pixdim == 0) & (np.array(layout.shape) > 1)).any())


def _usable(affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """The affine, None where it is not finite or makes the grid flat."""
    if not np.isfinite(affine).all():
        return None
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not (lengths > 0).all():
        return None
    return affine if abs(np.linalg.det(affine[:3, :3] / lengths)) > _SINGULAR else None


def _agree(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], shape: tuple[int, int, int]) -> bool:
    last = np.array(shape) - 1
    corners = np.array([[*(last * np.array(bits)), 1.0] for bits in np.ndindex(2, 2, 2)])
    distances = np.linalg.norm(corners @ (first - second).T, axis=1)
    return bool(distances.max() <= TOLERANCE_VOXELS * np.linalg.norm(first[:3, :3], axis=0).min())
