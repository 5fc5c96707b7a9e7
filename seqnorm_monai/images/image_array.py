"""An image that was read: the seam between the formats of files and everything that uses images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Affine = npt.NDArray[np.float64]
# Both systems have millimetres; x and y point the other way (PS3.3 section C.7.6.2.1.1; nifti1.h).
LPS_TO_RAS: Affine = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class ReadOptions:
    """How the values of a grayscale image leave its reader; formats that know none of this leave it aside.

    `apply_voi`: values in [0, 1] after the file's first VOI LUT or window, instead of modality values. `fill_padding`:
    padded pixels (DICOM PS3.3 section C.7.5.1.1.2) get the smallest value of all others, dark like air; else they keep
    what is stored, rescaled, as ITK leaves it.
    """

    apply_voi: bool = False
    fill_padding: bool = False


MODALITY_VALUES = ReadOptions()


@dataclass(frozen=True)
class ImageArray:
    """An image in the order of MONAI's readers: x along the columns first, then y along the rows, then z.

    `pixels`: (channels, x, y) or (channels, x, y, z), float32; phases of a series are channels. `affine`: (4, 4), from
    voxel indices to mm in RAS; where `has_geometry` is false it holds the spacing alone (1 where that is unknown).
    `path` names the first file. `meta`: texts under their DICOM keywords, numbers and small arrays, nothing that
    identifies a patient but UIDs.
    """

    path: str
    pixels: npt.NDArray[np.float32]
    affine: Affine
    has_geometry: bool
    meta: Mapping[str, object]
