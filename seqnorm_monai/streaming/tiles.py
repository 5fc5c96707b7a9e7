"""Regions of an image as a network takes them, and the blocks of patches that cover a grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import torch
from torch import Tensor

from seqnorm_monai.images.slides.regions import RegionImage

Prepare = Callable[[Tensor], Tensor]


def read_tile(
    image: RegionImage, start: tuple[int, ...], size: tuple[int, ...], *, prepare: Prepare | None, like: Tensor
) -> Tensor:
    """A region as a network takes it, (1, channels, \\*size), with the dtype and device of ``like``.

    Raises:
        ValueError: if the pixels are integers and ``prepare`` does not say what they are scaled by, or if the region
            or what ``prepare`` makes of it has another size.
    """
    pixels = np.asarray(image.read(*start, *size))
    if pixels.shape != (*size, *image.shape[len(size) :]):
        raise ValueError(f"read{(*start, *size)} of the image must return {size} pixels, got the shape {pixels.shape}")
    if not pixels.dtype.isnative:
        pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    # torch warns about memory that may not be written to, so such a region is copied
    tile = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy())
    tile = tile.movedim(-1, 0) if tile.dim() > len(size) else tile.unsqueeze(0)
    tile = tile.unsqueeze(0).to(like.device)
    if prepare is not None:
        tile = prepare(tile)
    elif not tile.is_floating_point():
        raise ValueError(
            f"the image holds {pixels.dtype} pixels: say how to scale them, for example "
            "prepare=lambda tile: tile.float() / 255"
        )
    if tile.shape[2:] != torch.Size(size):
        raise ValueError(f"prepare must keep the {size} pixels of a tile, got {tuple(tile.shape)}")
    return tile.to(like.dtype)


def tiles(grid: tuple[int, ...], patches: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Blocks of at most ``patches`` patches that cover a grid, each as its start and its size in patches.

    They are about as high as wide, so that a tiled file is not decoded once for every row of patches.
    """
    edge = max(1, int(patches ** (1 / len(grid)) + 1e-9))
    for start in product(*(range(0, n, edge) for n in grid)):
        yield start, tuple(min(edge, n - s) for n, s in zip(grid, start))
