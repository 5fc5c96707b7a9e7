"""One generated study in every form in which it can be handed in."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np

from seqnorm_monai.phantoms import BreastStudy, Grid, draw_plan, generate
from seqnorm_monai.phantoms.storage import Names, axial, enhanced, pre_apart, sagittal, series_each


def study() -> BreastStudy:
    """Left malignant, right benign."""
    grid = Grid((66, 26, 15), (5.0, 5.0, 8.0), (0.0, 33.0, 0.0))
    return generate(draw_plan(11, {"left": "malignant", "right": "benign"}), grid)


def _dicom(write: Callable[..., None], planes: Callable[..., object], name: str) -> Callable[[BreastStudy, Path], None]:
    return lambda made, folder: write(made, planes(made), Names(name), folder)


def _nifti(*names: str) -> Callable[[BreastStudy, Path], None]:
    def write(made: BreastStudy, folder: Path) -> None:
        folder.mkdir(parents=True)
        for name, phase in zip(names, made.phases, strict=True):
            nibabel.save(nibabel.Nifti1Image(phase, made.grid.affine), folder / f"{name}.nii.gz")

    return write


def _nifti_4d(made: BreastStudy, folder: Path) -> None:
    folder.mkdir(parents=True)
    image = nibabel.Nifti1Image(np.moveaxis(made.phases, 0, -1), made.grid.affine)
    nibabel.save(image, folder / "dynamic.nii")


def _itk(suffix: str) -> Callable[[BreastStudy, Path], None]:
    def write(made: BreastStudy, folder: Path) -> None:
        folder.mkdir(parents=True)
        with warnings.catch_warnings():
            # SWIG types warn when they are made
            warnings.simplefilter("ignore")
            import itk

            for name, phase in zip(("Pre", "Post_1", "Post_2"), made.phases, strict=True):
                image = itk.image_from_array(np.ascontiguousarray(phase.transpose(2, 1, 0)))
                image.SetSpacing(list(map(float, made.grid.spacing)))
                # ITK is LPS: the axes of the array run against its x and y
                image.SetDirection(np.diag([-1.0, -1.0, 1.0]))
                image.SetOrigin((np.diag([-1, -1, 1]) @ made.grid.affine[:3, 3]).tolist())
                itk.imwrite(image, str(folder / f"{name}{suffix}"))

    return write


FORMS: dict[str, Callable[[BreastStudy, Path], None]] = {
    "a series each": _dicom(series_each, axial, "each"),
    "pre apart": _dicom(pre_apart, axial, "apart"),
    "enhanced": _dicom(enhanced, axial, "enhanced"),
    "sagittal": _dicom(enhanced, sagittal, "sagittal"),
    "odelia": _nifti("Pre", "Post_1", "Post_2"),
    "mama-mia": _nifti("x_0000", "x_0001", "x_0002"),
    "four dimensions": _nifti_4d,
    "metaimage": _itk(".mha"),
    "nrrd": _itk(".nrrd"),
}
