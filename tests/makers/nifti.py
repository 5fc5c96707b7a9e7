"""What the tests of NIfTI share: arrays, headers changed in place, the comparison with MONAI, the refusal."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import LoadImage

from seqnorm_monai.images.nifti import NiftiReadError, read_nifti
from tests.makers.reading import load_nifti

SHAPE = (5, 7, 3)
RNG = np.random.default_rng(11)
AFFINE = np.array([[-2.0, 0, 0, 31], [0, 0, 3.5, -17], [0, 0.75, 0, 5], [0, 0, 0, 1]])


Make = Callable[..., Path]


def ramp(dtype: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return RNG.normal(size=shape).astype(kind)
    limits = np.iinfo(kind)
    return RNG.integers(limits.min, limits.max, size=shape, dtype=kind, endpoint=True)


def same_as_monai(path: Path) -> None:
    (volume,) = read_nifti(path)
    ours = load_nifti(volume)
    with warnings.catch_warnings():
        # it warns of an optional reader whatever the reader asked for
        warnings.simplefilter("ignore")
        theirs = LoadImage(reader="NibabelReader", ensure_channel_first=True, dtype=np.float32)(path)
    assert ours.dtype == torch.float32 and ours.shape == theirs.shape
    assert torch.equal(ours.as_tensor().nan_to_num(17.0), theirs.as_tensor().nan_to_num(17.0))
    torch.testing.assert_close(ours.affine, theirs.affine, rtol=1e-6, atol=1e-6)
    for key in ("spatial_shape", "space", "filename_or_obj", "dim", "pixdim", "sform_code"):
        np.testing.assert_array_equal(ours.meta[key], theirs.meta[key], err_msg=key)


def header_of(path: Path, change: Callable[[nibabel.Nifti1Header], None]) -> Path:
    """Change the header of a .nii in place, without nibabel's rules."""
    data = path.read_bytes()
    header = nibabel.Nifti1Header(data[:348], check=False)
    change(header)
    path.write_bytes(header.binaryblock + data[348:])
    return path


def refusal(path: Path) -> str:
    """The reason why the header, or else a volume, is refused."""
    with pytest.raises(NiftiReadError) as caught:
        for volume in read_nifti(path):
            load_nifti(volume)
    assert caught.value.path in (path, path.with_suffix(".img"))
    return caught.value.reason
