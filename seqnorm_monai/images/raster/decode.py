"""The pixels of a PNG, JPEG or TIFF file, exactly as they are stored, turned as the file asks for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from seqnorm_monai.images.image_array import LPS_TO_RAS, MODALITY_VALUES, ImageArray, ReadOptions
from seqnorm_monai.images.raster.errors import RasterReadError
from seqnorm_monai.images.raster.header import RasterImage, is_min_white, opened
from seqnorm_monai.images.raster.tiff_orientation import upright_copy
from seqnorm_monai.images.raster.wholeness import check_jpeg, check_png, check_tiff

Array = npt.NDArray[np.generic]


def read_raster_image(images: Sequence[RasterImage], options: ReadOptions = MODALITY_VALUES) -> ImageArray:
    """Read one file: (channels, x, y), float32, the values that are stored.

    TIFF's MinIsWhite is inverted, so that the largest value is white. A palette becomes RGB; an alpha channel is left
    out where it hides nothing. Spacing and place in the patient are unknown: a number of dots per inch is one for
    printers. No text of the file is read. These formats have neither padding nor windows: `options` change nothing.

    Raises RasterReadError for what is cut off, damaged, or transparent.
    """
    (image,) = images
    with opened(image.path) as file:
        _check_whole(image, file)
        array = _upright(image, file)
    pixels = np.moveaxis(array.reshape(*array.shape[:2], -1), (0, 1), (2, 1)).astype(np.float32)
    if pixels.shape != (image.channels, *image.shape):
        raise RasterReadError(image.path, "its pixels are not those that its header declares")
    return ImageArray(
        path=os.fspath(image.path),
        pixels=np.ascontiguousarray(pixels),
        # a spacing of 1, signed as that of a projection in DICOM
        affine=LPS_TO_RAS.copy(),
        has_geometry=False,
        meta={"num_non_finite": int(np.count_nonzero(~np.isfinite(pixels)))},
    )


def _check_whole(image: RasterImage, file: Image.Image) -> None:
    if image.format == "PNG":
        check_png(image.path)
    elif image.format == "JPEG":
        check_jpeg(image.path)
    else:
        check_tiff(image.path, dict(file.tag_v2))


def _upright(image: RasterImage, file: Image.Image) -> Array:
    """(rows, columns[, channels]) as a viewer shows them."""
    if image.format != "TIFF":
        orientation = file.getexif().get(ExifTags.Base.Orientation, 1)
        return _turned(_pixels(image.path, file, image.format), orientation)
    content, orientation = upright_copy(image.path)
    with opened(image.path, content) as copy:
        return _turned(_pixels(image.path, copy, image.format), orientation)


def _pixels(path: Path, file: Image.Image, kind: str) -> Array:
    """(rows, columns[, channels]) as they are stored."""
    inverted = kind == "TIFF" and is_min_white(file)
    # Pillow inverts 8 bits and less by itself
    depth = {"I;16": 16, "I;16B": 16, "I;16L": 16}.get(file.mode, 0)
    if inverted and file.mode in ("I", "F"):
        raise RasterReadError(path, "stores white as 0 in numbers with a sign, which has no largest value")
    bits = _bits(file) if kind == "TIFF" else depth
    if file.mode in ("P", "PA"):
        file = file.convert("RGBA" if file.mode == "PA" or "transparency" in file.info else "RGB")
    array = _opaque(path, np.asarray(file), file.mode)
    if inverted and depth:
        array = (1 << bits) - 1 - array.astype(np.int32)
    return array


def _bits(file: Image.Image) -> int:
    value = file.tag_v2.get(258, 1)
    return max(value) if isinstance(value, tuple) else int(value)


def _opaque(path: Path, array: Array, mode: str) -> Array:
    """Without the alpha channel."""
    if mode not in ("LA", "RGBA"):
        return array
    if (array[..., -1] != 255).any():
        raise RasterReadError(path, "is transparent in part", "write it without an alpha channel")
    return array[..., 0] if mode == "LA" else array[..., :3]


def _turned(array: Array, orientation: int) -> Array:
    """Rows and columns as a viewer shows them (EXIF 2.32 section 4.6.4, Orientation)."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array
