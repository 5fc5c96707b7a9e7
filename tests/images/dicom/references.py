"""What other software makes of the same DICOM files."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def by_itk(paths: Path | Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Array (x, y, z[, channels]) and affine (RAS) of a file, or of the sorted slices of a series, by ITK's GDCM."""
    with warnings.catch_warnings():
        # its wrappers warn while they are loaded, lazily, and a warning that is an error there ends the process
        warnings.simplefilter("ignore")
        itk: Any = pytest.importorskip("itk")
        names = str(paths) if isinstance(paths, Path) else [str(path) for path in paths]
        image = itk.imread(names, itk.F) if not isinstance(paths, Path) else itk.imread(names)
        array = np.array(itk.array_from_image(image))
        affine = np.eye(4)
        affine[:3, :3] = np.array(image.GetDirection()) @ np.diag(np.array(image.GetSpacing()))
        affine[:3, 3] = image.GetOrigin()
    axes = (2, 1, 0, *range(3, array.ndim))
    return array.transpose(axes), np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def itk_order(folder: Path) -> list[Path]:
    """The files of the one series in a folder, in the order of GDCM's own sorting."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        itk: Any = pytest.importorskip("itk")
        names = itk.GDCMSeriesFileNames.New()
        names.SetDirectory(str(folder))
        return [Path(name) for name in names.GetInputFileNames()]
