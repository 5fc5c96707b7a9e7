"""The one way from a file to pixels, in the forms that tests compare."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from monai.data import MetaTensor

from seqnorm_monai.data import LoadRadiograph, to_metatensor
from seqnorm_monai.images.dicom.volume import Volume
from seqnorm_monai.images.nifti import NiftiVolume


def load_volume(volume: Volume | NiftiVolume, *, affine_lps_to_ras: bool = True) -> MetaTensor:
    """One volume as MONAI's pipelines see it."""
    return to_metatensor(volume.read(), affine_lps_to_ras=affine_lps_to_ras)


load_nifti = load_volume


@dataclass(frozen=True)
class Radiograph:
    """`pixels` (rows, columns); `spacing` (between rows, between columns) in mm, None if unknown."""

    pixels: np.ndarray
    spacing: tuple[float, float] | None
    spacing_source: str | None
    meta: dict[str, object]

    def __getattr__(self, name: str) -> object:
        """Meta data, ``StudyInstanceUID`` as `study_instance_uid`."""
        words = [word.upper() if word in ("uid", "sop") else word.title() for word in name.split("_")]
        return self.meta["".join(words)]


def read_radiograph(
    path: str | os.PathLike[str], *, apply_voi: bool = False, modalities: Sequence[str] | None = None
) -> Radiograph:
    """What `LoadRadiograph` gives, with rows first."""
    image = LoadRadiograph(apply_voi=apply_voi, modalities=modalities)(path)
    column_mm, row_mm = (abs(float(image.affine[axis, axis])) for axis in (0, 1))
    source = str(image.meta["spacing_source"]) or None
    return Radiograph(image[0].numpy().T, (row_mm, column_mm) if source else None, source, dict(image.meta))
