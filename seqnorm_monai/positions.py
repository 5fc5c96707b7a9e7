"""Where a token stands in the image: fixed sine-cosine positions for any grid, or learnt ones that are resampled."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The wavelengths reach from 2 pi to nearly this times 2 pi patches (Vaswani et al., arXiv 1706.03762, section 3.5)
TEMPERATURE = 10_000.0


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
        frequency = torch.exp(-self.decay * torch.arange(self.waves, dtype=torch.float32, device=like.device))
        parts: list[Tensor] = []
        for axis in range(len(self.grid_size)):
            size = grid[axis]
            index = torch.arange(size, dtype=torch.float32, device=like.device)
            index = (index + 0.5) * (self.grid_size[axis] / size) - 0.5
            angle = index.unsqueeze(1) * frequency
            wave = torch.cat([angle.sin(), angle.cos()], dim=1)  # (size, 2 waves): each axis is computed once
            shape = [1] * len(self.grid_size) + [2 * self.waves]
            shape[axis] = size
            parts.append(wave.reshape(shape).expand(grid + [2 * self.waves]))
        return torch.cat(parts, dim=-1).reshape(1, -1, 2 * self.waves * len(self.grid_size)).to(like.dtype)


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


POSITION_KINDS = {"sincos": SinCosPositions, "learnable": LearnablePositions}


def create_positions(kind: str, *, hidden_size: int, grid_size: tuple[int, ...]) -> nn.Module:
    """The position module named ``kind``: ``sincos`` or ``learnable``.

    Raises:
        ValueError: for another name.
    """
    if kind not in POSITION_KINDS:
        raise ValueError(f"pos_embed must be one of {', '.join(POSITION_KINDS)}, got {kind!r}")
    return POSITION_KINDS[kind](hidden_size=hidden_size, grid_size=grid_size)
