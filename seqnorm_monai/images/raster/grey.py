"""Grey values that a file keeps as RGB, as exports of viewers and many public collections do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from seqnorm_monai.images.image_array import ImageArray
from seqnorm_monai.images.raster.errors import RasterReadError

# What the way from grey to YCbCr and back leaves between the channels of a JPEG file: half a level in each of the
# three, rounded. In the other formats grey is grey.
_JPEG_ROUNDING = 2


def to_grey(image: ImageArray, kind: str) -> ImageArray:
    """The one channel of an image whose three are equal; an image of one channel as it is.

    In a JPEG file (`kind`) channels may differ by 2 of 255 levels; their mean is taken. Raises RasterReadError for
    colour.
    """
    if len(image.pixels) == 1:
        return image
    difference = float((image.pixels.max(axis=0) - image.pixels.min(axis=0)).max(initial=0.0))
    if difference > (_JPEG_ROUNDING if kind == "JPEG" else 0):
        raise RasterReadError(image.path, "a colour image (3 channels), no radiograph")
    grey = image.pixels[:1] if difference == 0 else image.pixels.mean(axis=0, keepdims=True)
    return replace(image, pixels=np.ascontiguousarray(grey))
