"""Volumes of one patient brought onto one grid: by their places in the scanner, or by a rigid registration."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Volume = npt.NDArray[np.float32]
Affine = npt.NDArray[np.float64]

# of the registration: levels from coarse to fine, and how much of the voxels the metric looks at
_SHRINK, _SMOOTH, _SAMPLED = (4, 2, 1), (2.0, 1.0, 0.0), 0.2
_ITERATIONS, _BINS = 60, 32


def resample(volume: Volume, affine: Affine, shape: tuple[int, ...], onto: Affine) -> Volume:
    """`volume` (x, y, z) at the voxels of another grid, linear between its own; 0 where it does not reach.

    `affine` and `onto` map voxels to mm in one system.
    """
    to_voxels = np.linalg.inv(affine) @ onto
    found = ndimage.affine_transform(
        volume, to_voxels[:3, :3], to_voxels[:3, 3], output_shape=shape, order=1, mode="constant", cval=0.0
    )
    return found.astype(np.float32)


def register(moving: Volume, fixed: Volume, spacing: tuple[float, ...]) -> Volume:
    """`moving` after the rigid movement that brings it onto `fixed`; both on one grid (x, y, z).

    See `movement`. Outside of the volume the edge is repeated.
    """
    matrix = movement(moving, fixed, spacing)
    scale = np.array(spacing)
    found = ndimage.affine_transform(
        moving, matrix[:3, :3] * scale / scale[:, None], matrix[:3, 3] / scale, order=1, mode="nearest"
    )
    return found.astype(np.float32)


def movement(moving: Volume, fixed: Volume, spacing: tuple[float, ...], *, seed: int = 1) -> Affine:
    """(4, 4): from a place (mm along the axes, from the first voxel) in `fixed` to the same tissue in `moving`; rigid.

    Mattes' mutual information (IEEE Trans. Med. Imaging 2003;22:120-128), which enhancement disturbs little, of a
    share of the voxels, by ITK, from coarse to fine. The sample of voxels has a fixed seed.
    """
    # SWIG types warn when they are made
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import itk

        kind = itk.Image[itk.F, 3]
        one, two = (_image(itk, volume, spacing) for volume in (fixed, moving))
        transform = itk.Euler3DTransform[itk.D].New()
        centre = [(size - 1) * step / 2 for size, step in zip(fixed.shape, spacing, strict=True)]
        transform.SetCenter(centre)
        metric = itk.MattesMutualInformationImageToImageMetricv4[kind, kind].New()
        metric.SetNumberOfHistogramBins(_BINS)
        method = itk.ImageRegistrationMethodv4[kind, kind].New(
            fixed_image=one, moving_image=two, metric=metric, optimizer=_optimizer(itk, metric)
        )
        method.SetInitialTransform(transform)
        method.InPlaceOn()
        method.SetNumberOfLevels(len(_SHRINK))
        method.SetShrinkFactorsPerLevel(_SHRINK)
        method.SetSmoothingSigmasPerLevel(_SMOOTH)
        method.SetMetricSamplingPercentage(_SAMPLED)
        method.SetMetricSamplingStrategy(itk.ImageRegistrationMethodv4Enums.MetricSamplingStrategy_RANDOM)
        method.MetricSamplingReinitializeSeed(seed)
        method.Update()
        found = np.eye(4)
        found[:3, :3] = itk.array_from_matrix(transform.GetMatrix())
        found[:3, 3] = list(transform.GetOffset())
    return found


def _image(itk: object, volume: Volume, spacing: tuple[float, ...]) -> object:
    image = itk.image_from_array(np.ascontiguousarray(volume.transpose(2, 1, 0), dtype=np.float32))
    image.SetSpacing([float(step) for step in spacing])
    return image


def _optimizer(itk: object, metric: object) -> object:
    scales = itk.RegistrationParameterScalesFromPhysicalShift[type(metric)].New(metric=metric)
    optimizer = itk.RegularStepGradientDescentOptimizerv4[itk.D].New()
    optimizer.SetScalesEstimator(scales)
    optimizer.SetLearningRate(2.0)
    optimizer.SetMinimumStepLength(1e-3)
    optimizer.SetRelaxationFactor(0.5)
    optimizer.SetNumberOfIterations(_ITERATIONS)
    return optimizer
