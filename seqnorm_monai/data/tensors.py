"""Arrays to MONAI's tensors: the only place that knows its keys of meta data."""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor
from monai.utils import MetaKeys, SpaceKeys
from monai.utils.misc import ImageMetaKey

from seqnorm_monai.images.image_array import LPS_TO_RAS, ImageArray

# Texts that every image carries, "" where its format knows none: batches of several formats collate.
TEXTS = (
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "TransferSyntaxUID"),
    *("Modality", "PhotometricInterpretation", "ViewPosition", "ImageLaterality", "spacing_source"),
)


def to_metatensor(image: ImageArray, *, affine_lps_to_ras: bool = True) -> MetaTensor:
    """A `MetaTensor` (channels, x, y[, z]), float32, that shares the pixels of `image`.

    Its affine maps voxels to mm in RAS, or in LPS if `affine_lps_to_ras` is off, as MONAI's readers call it. Meta data:
    those of the image, `filename_or_obj`, `has_geometry`, and what MONAI's own transforms look for. All of it collates.
    """
    affine = image.affine if affine_lps_to_ras else LPS_TO_RAS @ image.affine
    meta = {
        **dict.fromkeys(TEXTS, ""),
        **image.meta,
        "has_geometry": image.has_geometry,
        ImageMetaKey.FILENAME_OR_OBJ: image.path,
        MetaKeys.ORIGINAL_AFFINE.value: affine.copy(),
        MetaKeys.SPATIAL_SHAPE.value: np.asarray(image.pixels.shape[1:]),
        MetaKeys.ORIGINAL_CHANNEL_DIM.value: 0,
        MetaKeys.SPACE.value: SpaceKeys.RAS if affine_lps_to_ras else SpaceKeys.LPS,
    }
    return MetaTensor(torch.from_numpy(image.pixels), affine=torch.from_numpy(affine), meta=meta)
