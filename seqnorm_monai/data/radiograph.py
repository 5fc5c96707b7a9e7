"""One projection radiograph out of a DICOM file."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import MetaKeys, TransformBackends
from monai.utils.misc import ImageMetaKey

from seqnorm_monai.data.items import StudyImage
from seqnorm_monai.images.dicom import OtherModalityError, Radiograph, UnsupportedImageError, read_radiograph


class LoadRadiograph(Transform):
    """Path of a DICOM radiograph -> `MetaTensor` (1, rows, columns), float32, the largest value shown white.

    The affine is diag(row spacing, column spacing, 1, 1) in mm, along the axes of the array, with 1 where the file
    has no spacing: a projection has no patient coordinate system. Meta data: `filename_or_obj`, the UIDs and codes
    under their DICOM keywords ("" where absent), `spacing_source` ("" where there is no spacing), and what MONAI's
    own transforms look for. All of it collates.

    Instead of a path it takes a `seqnorm_monai.data.items.StudyImage` of one file too. `apply_voi` and `modalities` as
    in `seqnorm_monai.images.dicom.read_radiograph`. Raises `DicomReadError`; inside a `Compose` use
    `seqnorm_monai.images.dicom.find_read_error` to get at it.
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012

    def __init__(self, *, apply_voi: bool = False, modalities: Sequence[str] | None = None) -> None:
        if isinstance(modalities, str):
            raise TypeError(f"modalities: a sequence of strings is needed, not the string {modalities!r}")
        self.apply_voi = apply_voi
        self.modalities = None if modalities is None else tuple(modalities)

    def __call__(self, path: str | os.PathLike[str] | StudyImage) -> MetaTensor:
        if isinstance(path, StudyImage):
            path = self._file_of(path)
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"LoadRadiograph needs the path of one file, got {type(path).__name__}")
        radiograph = read_radiograph(path, apply_voi=self.apply_voi, modalities=self.modalities)
        row_mm, column_mm = radiograph.spacing or (1.0, 1.0)
        affine = torch.diag(torch.tensor([row_mm, column_mm, 1.0, 1.0], dtype=torch.float64))
        pixels = torch.from_numpy(radiograph.pixels).unsqueeze(0)
        return MetaTensor(pixels, affine=affine, meta=_meta(path, radiograph, affine))

    def _file_of(self, image: StudyImage) -> Path:
        """The file of a single image; anything else is another kind of image than a radiograph."""
        if image.entries[0].row.format != "DICOM":
            raise UnsupportedImageError(image.path, f"a {image.entries[0].row.format} file, no radiograph")
        modality = image.entries[0].row.modality
        if self.modalities is not None and modality and modality not in self.modalities:
            raise OtherModalityError(image.path, f"Modality {modality}, accepted are {', '.join(self.modalities)}")
        files = image.files
        if len(files) != 1 or len(image.entries) != 1:
            raise UnsupportedImageError(
                image.path, f"an image of {len(image.entries)} volumes in {len(files)} files, no radiograph"
            )
        return files[0]


class LoadRadiographd(MapTransform):
    """`LoadRadiograph` for the entries `keys` of a dictionary. Raises KeyError that names a missing key."""

    backend = LoadRadiograph.backend

    def __init__(
        self,
        keys: KeysCollection,
        *,
        apply_voi: bool = False,
        modalities: Sequence[str] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.loader = LoadRadiograph(apply_voi=apply_voi, modalities=modalities)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.loader(result[key])
        return result


def _meta(path: str | os.PathLike[str], radiograph: Radiograph, affine: torch.Tensor) -> dict[str, Any]:
    return {
        ImageMetaKey.FILENAME_OR_OBJ: os.fspath(path),
        MetaKeys.ORIGINAL_AFFINE.value: affine.clone(),
        MetaKeys.SPATIAL_SHAPE.value: np.asarray(radiograph.pixels.shape),
        MetaKeys.ORIGINAL_CHANNEL_DIM.value: 0,
        "StudyInstanceUID": radiograph.study_instance_uid,
        "SeriesInstanceUID": radiograph.series_instance_uid,
        "SOPInstanceUID": radiograph.sop_instance_uid,
        "SOPClassUID": radiograph.sop_class_uid,
        "Modality": radiograph.modality,
        "PhotometricInterpretation": radiograph.photometric_interpretation,
        "TransferSyntaxUID": radiograph.transfer_syntax_uid,
        "ViewPosition": radiograph.view_position,
        "ImageLaterality": radiograph.image_laterality,
        "spacing_source": radiograph.spacing_source or "",
    }
