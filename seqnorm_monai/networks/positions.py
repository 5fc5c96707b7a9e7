"""Where a token is in the image: fixed sine-cosine positions for any grid, or learnt ones that are resampled."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The wavelengths reach from 2 pi to nearly this times 2 pi patches (Vaswani et al., arXiv 1706.03762, section 3.5)
TEMPERATURE = 10_000.0
CUBIC_A = -0.75  # of torch's bicubic resampling


class SinCosPositions(nn.Module):
    """Sine-cosine positions of a 2D or 3D grid, computed for whatever grid comes in. No parameters.

    Each axis gets C / axes channels: sin(u w_i) and cos(u w_i) of the patch index u along it, with
    w_i = 10000^(-i / (C / (2 axes))). That is the ViT's fixed embedding (arXiv 1706.03762 per axis, 2D as in
    MAE, arXiv 2111.06377). A grid of another size than ``grid_size`` is taken for the same field of view at another
    resolution, so the index is scaled: u = (i + 1/2) grid_size / size - 1/2. This is our reading.

    Args:
        hidden_size: C; a multiple of 2 * axes.
        grid_size: patches along each axis at the network's ``img_size``.

    Raises:
        ValueError: if C is not a multiple of 2 * axes.
    """

    def __init__(self, *, hidden_size: int, grid_size: tuple[int, ...]) -> None:
        super().__init__()
        axes = len(grid_size)
        if hidden_size % (2 * axes):
            raise ValueError(
                f"hidden_size must be a multiple of {2 * axes} for sine-cosine positions in {axes}D, got {hidden_size}"
            )
        self.grid_size = list(grid_size)
        self.waves = hidden_size // (2 * axes)
        self.decay = math.log(TEMPERATURE) / self.waves

    def forward(self, grid: list[int], like: Tensor) -> Tensor:
        """The positions of all patches of a grid, (1, N, C), with the dtype and device of ``like``."""
        indices: list[Tensor] = []
        for size in grid:
            indices.append(torch.arange(size, dtype=torch.float32, device=like.device))
        return self._waves(grid, indices, grid, like)

    @torch.jit.unused
    def region(self, grid: list[int], start: tuple[int, ...], size: tuple[int, ...], like: Tensor) -> Tensor:
        """The rows of :meth:`forward` for only ``size`` patches from ``start`` on, (1, product of size, C)."""
        indices = [torch.arange(s, s + n, dtype=torch.float32, device=like.device) for s, n in zip(start, size)]
        return self._waves(grid, indices, list(size), like)

    def _waves(self, grid: list[int], indices: list[Tensor], size: list[int], like: Tensor) -> Tensor:
        frequency = torch.exp(-self.decay * torch.arange(self.waves, dtype=torch.float32, device=like.device))
        parts: list[Tensor] = []
        for axis in range(len(self.grid_size)):
            index = (indices[axis] + 0.5) * (self.grid_size[axis] / grid[axis]) - 0.5
            angle = index.unsqueeze(1) * frequency
            wave = torch.cat([angle.sin(), angle.cos()], dim=1)  # (size, 2 waves): each axis is computed once
            shape = [1] * len(self.grid_size) + [2 * self.waves]
            shape[axis] = size[axis]
            parts.append(wave.reshape(shape).expand(size + [2 * self.waves]))
        return torch.cat(parts, dim=-1).reshape(1, -1, 2 * self.waves * len(self.grid_size)).to(like.dtype)


def _resampling(learnt: int, size: int, start: int, count: int, mode: str, like: Tensor) -> tuple[Tensor, Tensor]:
    """Neighbours and their weights, each (count, taps), by which torch resamples an axis without aligned corners.

    ::

        u = (i + 1/2) learnt / size - 1/2,   f = floor(u),  t = u - f;   a neighbour beyond the border is the border
        linear: 1 - t, t at f, f + 1;        cubic: Keys' kernel with A = -3/4 at f - 1 ... f + 2
    """
    index = torch.arange(start, start + count, dtype=like.dtype, device=like.device)
    place = (index + 0.5) * (learnt / size) - 0.5
    floor = place.floor()
    t = (place - floor).unsqueeze(1)
    if mode == "bicubic":
        far, near = torch.cat([t + 1, 2 - t], dim=1), torch.cat([t, 1 - t], dim=1)
        far = ((CUBIC_A * far - 5 * CUBIC_A) * far + 8 * CUBIC_A) * far - 4 * CUBIC_A
        near = ((CUBIC_A + 2) * near - (CUBIC_A + 3)) * near * near + 1
        weights = torch.cat([far[:, :1], near, far[:, 1:]], dim=1)
        offsets = torch.arange(-1, 3, device=like.device)
    else:
        weights = torch.cat([1 - t, t], dim=1)
        offsets = torch.arange(2, device=like.device)
    return (floor.long().unsqueeze(1) + offsets).clamp(0, learnt - 1), weights


class LearnablePositions(nn.Module):
    """A learnt vector for each patch of the grid at ``img_size``, resampled for other grids (bicubic or trilinear).

    ``embedding`` is (1, N, C) in row-major order of the grid.

    Args:
        hidden_size: C.
        grid_size: patches along each axis at the network's ``img_size``.
    """

    def __init__(self, *, hidden_size: int, grid_size: tuple[int, ...]) -> None:
        super().__init__()
        self.grid_size = list(grid_size)
        self.mode = "bicubic" if len(grid_size) == 2 else "trilinear"
        self.embedding = nn.Parameter(torch.empty(1, math.prod(grid_size), hidden_size))
        nn.init.trunc_normal_(self.embedding, std=0.02)

    def forward(self, grid: list[int], like: Tensor) -> Tensor:
        """The positions of all patches of a grid, (1, N, C), with the dtype and device of ``like``."""
        image = self.embedding.transpose(1, 2).unflatten(2, self.grid_size)
        # also at the grid's own size, where it changes no bit: a branch would be frozen by a trace or an export
        image = F.interpolate(image, size=grid, mode=self.mode, align_corners=False)
        return image.flatten(2).transpose(1, 2).to(like.dtype)

    @torch.jit.unused
    def region(self, grid: list[int], start: tuple[int, ...], size: tuple[int, ...], like: Tensor) -> Tensor:
        """The rows of :meth:`forward` for only ``size`` patches from ``start`` on, (1, product of size, C).

        Resampling is a product with one small matrix for each axis, of which a region needs a few rows; each reads a
        few neighbours of the learnt grid, so the work follows the region and not the grid.
        """
        image = self.embedding[0].unflatten(0, self.grid_size)
        for axis, learnt in enumerate(self.grid_size):
            taps, weights = _resampling(learnt, grid[axis], start[axis], size[axis], self.mode, image)
            first = int(taps.min())
            near = image.narrow(axis, first, int(taps.max()) + 1 - first)
            rows = near.new_zeros(size[axis], near.shape[axis]).scatter_add(1, taps - first, weights)
            image = torch.tensordot(rows, near, dims=([1], [axis])).movedim(0, axis)
        return image.flatten(0, -2).unsqueeze(0).to(like.dtype)


POSITION_KINDS = {"sincos": SinCosPositions, "learnable": LearnablePositions}


def create_positions(kind: str, *, hidden_size: int, grid_size: tuple[int, ...]) -> nn.Module:
    """The position module named ``kind``: ``sincos`` or ``learnable``.

    Raises:
        ValueError: for another name.
    """
    if kind not in POSITION_KINDS:
        raise ValueError(f"pos_embed must be one of {', '.join(POSITION_KINDS)}, got {kind!r}")
    return POSITION_KINDS[kind](hidden_size=hidden_size, grid_size=grid_size)
