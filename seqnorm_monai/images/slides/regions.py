"""Images that are read region by region, because the whole would not fit into memory.

An image is any object with ``shape`` and ``read``: ``shape`` holds the spatial sizes in pixels, and the number of
channels last if there are any; ``read(row, column, height, width)`` returns that region as an array of the same
layout. A volume has three offsets and three sizes. Channels last is how image files and slides keep them.

The images of this module hold a file open, so they are context managers and have ``close``.
"""

from __future__ import annotations

import math
import mmap
import os
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import numpy as np

from seqnorm_monai.images.slides.shown_values import shown_values, stated_background
from seqnorm_monai.optional import require

if TYPE_CHECKING:
    from tifffile import TiffPage

TIFF_SUFFIXES = (".tif", ".tiff", ".svs", ".ndpi")
CLOSED = "the image is closed: read it inside its with block, or open it again"


class RegionImage(Protocol):
    """What is read by regions: see the module."""

    shape: tuple[int, ...]

    def read(self, *region: int) -> np.ndarray:
        """The region as an array: one offset for each spatial axis, then one size for each, in pixels."""


class ClosableImage(AbstractContextManager["ClosableImage"]):
    """An image of this module: it closes with its block."""

    shape: tuple[int, ...]

    @abstractmethod
    def read(self, *region: int) -> np.ndarray:
        """As :class:`RegionImage` has it."""

    @abstractmethod
    def close(self) -> None:
        """Close the file; nothing can be read afterwards. A second call does nothing."""

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class ArrayImage(ClosableImage):
    """A numpy array or memory map, (\\*size) or (\\*size, channels).

    Where channels come first, ``np.moveaxis(array, 0, -1)`` is a view that has them last.

    Args:
        array: the pixels. Of a memory map, the pages that were read are given back after each region.
    """

    def __init__(self, array: np.ndarray) -> None:
        self.array: np.ndarray | None = array
        self.shape = tuple(array.shape)

    def read(self, *region: int) -> np.ndarray:
        if self.array is None:
            raise ValueError(CLOSED)
        axes = len(region) // 2
        pixels = np.array(self.array[tuple(slice(o, o + n) for o, n in zip(region[:axes], region[axes:]))])
        _release(self.array)
        return pixels

    def close(self) -> None:
        """Let go of the array: a mapped file closes with its last reference, an array of the caller stays whole."""
        self.array = None


def _release(array: np.ndarray) -> None:
    """A mapped page counts as this process's memory until it is given back; a private copy would be lost."""
    mapping = getattr(array, "_mmap", None)
    if mapping is not None and array.mode in ("r", "r+") and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


class TiffImage(ClosableImage):
    """A tiled TIFF file (slides too), of which a region decodes the tiles that it touches.

    Values are those that are shown: a palette becomes RGB, and where 0 is white the range is reflected.

    Args:
        path: of the file.
        level: of a pyramid; 0 is the full resolution.
        missing: what tiles without data hold, 255 for white. Scanners leave out tiles of bare glass; a file may say by
            GDAL's tag what they hold.

    Raises:
        ImportError: with the install line, if tifffile is missing.
        ValueError: for a file that is not tiled, keeps its channels apart or has colours that are not read; when a tile
            is read that is cut off, or that holds no data while `missing` is not given.
    """

    def __init__(self, path: str | os.PathLike[str], *, level: int = 0, missing: float | None = None) -> None:
        self._file = require("tifffile", "slides").TiffFile(path)
        try:
            self._page = self._tiled_page(path, level)
            self._shown = shown_values(path, self._page)
        except BaseException:
            self._file.close()
            raise
        self._path = path
        self._missing = stated_background(self._page) if missing is None else missing
        self.shape = (*self._page.shape, *self._shown.channels)

    def _tiled_page(self, path: str | os.PathLike[str], level: int) -> TiffPage:
        levels = self._file.series[0].levels
        if not 0 <= level < len(levels):
            raise ValueError(f"level must be 0 to {len(levels) - 1} for {path}, got {level}")
        page = levels[level].keyframe
        if not page.is_tiled or page.imagedepth != 1 or page.axes not in ("YX", "YXS"):
            raise ValueError(
                f"{path} must be tiled, with channels last; its axes are {page.axes}, tiled: {page.is_tiled}. "
                "Write it again with tifffile.imwrite(..., tile=(512, 512))"
            )
        return page

    def close(self) -> None:
        self._file.close()

    def _tile(self, row: int, column: int) -> np.ndarray | None:
        """One decoded tile, (height, width[, channels]); None where the file holds no data."""
        page = self._page
        index = row * math.ceil(page.imagewidth / page.tilewidth) + column
        if index >= len(page.databytecounts) or not (page.databytecounts[index] and page.dataoffsets[index]):
            return self._no_tile(row, column)
        handle = self._file.filehandle
        handle.seek(page.dataoffsets[index])
        data = handle.read(page.databytecounts[index])
        if len(data) < page.databytecounts[index]:
            raise ValueError(f"{self._path} is cut off within tile {row}, {column}: copy it anew")
        segment, _, size = page.decode(data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)
        if segment is None:
            return self._no_tile(row, column)
        tile = segment[0, : size[1], : size[2]]
        return self._shown(tile if len(page.shape) == 3 else tile[..., 0])

    def _no_tile(self, row: int, column: int) -> None:
        if self._missing is None:
            raise ValueError(
                f"{self._path}: tile {row}, {column} holds no data, and the file does not say what stands for it. "
                "Open it with TiffImage(path, missing=255) for white, or with another value"
            )

    def read(self, *region: int) -> np.ndarray:
        if self._file.filehandle.closed:
            raise ValueError(CLOSED)
        row, column, height, width = region
        length, across = self._page.tilelength, self._page.tilewidth
        pixels = np.full((height, width, *self.shape[2:]), self._missing or 0, dtype=self._shown.dtype)
        for i in range(row // length, -(-(row + height) // length)):
            for j in range(column // across, -(-(column + width) // across)):
                tile = self._tile(i, j)
                if tile is None:
                    continue
                top, left = max(row, i * length), max(column, j * across)
                part = tile[
                    top - i * length : row + height - i * length, left - j * across : column + width - j * across
                ]
                pixels[top - row : top - row + part.shape[0], left - column : left - column + part.shape[1]] = part
        return pixels


class CroppedImage(ClosableImage):
    """The first pixels of another image along each spatial axis, as many as make whole patches.

    Args:
        image: as :func:`open_image` takes it. A file that is opened here closes with this image; an object stays open.
        patch_size: pixels of a patch along each spatial axis.
    """

    def __init__(self, image: object, patch_size: tuple[int, ...]) -> None:
        self.image = open_image(image)
        self._opened_here = self.image is not image
        try:
            spatial = [n // p * p for n, p in zip(self.image.shape, patch_size)]
            self.shape = (*spatial, *self.image.shape[len(patch_size) :])
        except BaseException:
            self.close()
            raise

    def read(self, *region: int) -> np.ndarray:
        return self.image.read(*region)

    def close(self) -> None:
        if self._opened_here:
            self.image.close()


def open_image(image: object) -> RegionImage:
    """An array, a ``.npy`` file, a tiled TIFF file or an object with ``shape`` and ``read``, as the last of these.

    What comes from an array or a file is a :class:`ClosableImage`; an object is returned as it is.

    Raises:
        TypeError: for anything else.
        ValueError: for a file of another kind.
    """
    if isinstance(image, np.ndarray):
        return ArrayImage(image)
    if isinstance(image, (str, os.PathLike)):
        suffix = Path(image).suffix.lower()
        if suffix == ".npy":
            return ArrayImage(np.load(image, mmap_mode="r"))
        if suffix in TIFF_SUFFIXES:
            return TiffImage(image)
        raise ValueError(f"an image file must be .npy or one of {', '.join(TIFF_SUFFIXES)}, got {image}")
    if hasattr(image, "shape") and callable(getattr(image, "read", None)):
        return image
    raise TypeError(f"image must be a numpy array, a path or an object with shape and read, got {type(image).__name__}")


@contextmanager
def opened(image: object) -> Iterator[RegionImage]:
    """:func:`open_image` for the length of a block: it closes what it opened, and leaves the caller's object open."""
    region = open_image(image)
    try:
        yield region
    finally:
        if region is not image:
            region.close()
