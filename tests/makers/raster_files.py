"""PNG, JPEG and TIFF files of every kind that collections hold, with values that tell each pixel apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

SHAPE = (13, 7)  # rows, columns: odd and different


def values(dtype: type[np.generic] | str = np.uint8, seed: int = 5) -> np.ndarray:
    """(rows, columns) over the whole range of a type of integers."""
    limits = np.iinfo(dtype)
    generator = np.random.default_rng(seed)
    return generator.integers(limits.min, limits.max, SHAPE, dtype=dtype, endpoint=True)


def save(array: np.ndarray, path: Path, mode: str | None = None, **options: object) -> Path:
    """Write an array as Pillow does."""
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def expected(array: np.ndarray) -> np.ndarray:
    """(channels, x, y), float32, as the package reads it."""
    channels_last = array.reshape(*array.shape[:2], -1)
    return np.moveaxis(channels_last, (0, 1), (2, 1)).astype(np.float32)


def texts(mark: str) -> PngImagePlugin.PngInfo:
    """Every kind of text that a PNG file can hold, each with a mark of its own."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Patient", f"{mark}1")
    info.add_text("Comment", f"{mark}2", zip=True)
    info.add_itxt("Author", f"{mark}3")
    info.add_itxt("XML:com.adobe.xmp", f"<x>{mark}4</x>")
    return info
