"""Positions of a token grid: the published formula, other grids, and a resampling that leaves its own grid alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from seqnorm_monai.networks.positions import LearnablePositions, SinCosPositions, create_positions
from tests.makers.compare import assert_close

GRIDS = [(5, 7), (3, 5, 7)]
LIKE = torch.zeros(1)


def literal_sincos(grid: tuple[int, ...], native: tuple[int, ...], hidden_size: int) -> Tensor:
    """One number at a time, as the formula reads."""
    waves = hidden_size // (2 * len(grid))
    rows = []
    for cell in torch.cartesian_prod(*[torch.arange(size) for size in grid]).tolist():
        row = []
        for axis, index in enumerate(cell):
            place = (index + 0.5) * native[axis] / grid[axis] - 0.5
            angles = [place * 10_000 ** (-wave / waves) for wave in range(waves)]
            row += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        rows.append(row)
    return torch.tensor(rows)[None]


@pytest.mark.parametrize("native", GRIDS)
@pytest.mark.parametrize("factor", [1, 2])
def test_sincos_is_the_formula(native: tuple[int, ...], factor: int) -> None:
    hidden_size = 2 * len(native) * 3
    grid = tuple(size * factor + axis * (factor - 1) for axis, size in enumerate(native))
    ours = SinCosPositions(hidden_size=hidden_size, grid_size=native)(list(grid), LIKE)
    assert_close(ours, literal_sincos(grid, native, hidden_size), 1e-6)


def test_sincos_at_its_own_grid_counts_patches() -> None:
    """At the native size the position is the whole number that the published embedding uses."""
    ours = SinCosPositions(hidden_size=4, grid_size=(2, 3))([2, 3], LIKE)
    rows = [[math.sin(y), math.cos(y), math.sin(x), math.cos(x)] for y in range(2) for x in range(3)]
    assert_close(ours, torch.tensor([rows]), 1e-6)


@pytest.mark.parametrize("native", GRIDS)
def test_learnable_is_exact_at_its_own_grid(native: tuple[int, ...]) -> None:
    positions = LearnablePositions(hidden_size=11, grid_size=native)
    assert torch.equal(positions(list(native), LIKE), positions.embedding)


@pytest.mark.parametrize(("native", "tolerance"), [(GRIDS[0], 0.02), (GRIDS[1], 1e-6)])
def test_learnable_keeps_a_ramp_on_a_finer_grid(native: tuple[int, ...], tolerance: float) -> None:
    """Away from the border, twice the grid of a linear ramp is the same ramp at half steps, each axis its own.

    Trilinear resampling keeps a ramp exactly; torch's bicubic kernel (A = -0.75) bends it by up to 2 %.
    """
    native = tuple(size + 4 for size in native)
    positions = LearnablePositions(hidden_size=len(native), grid_size=native)
    cells = torch.cartesian_prod(*[torch.arange(size, dtype=torch.float32) for size in native])
    positions.embedding.data = cells[None]
    fine = [2 * size for size in native]
    ours = positions(fine, LIKE).detach().reshape(*fine, len(native))
    expected = torch.cartesian_prod(*[(torch.arange(size) + 0.5) / 2 - 0.5 for size in fine])
    inner = tuple(slice(4, -4) for _ in native)
    assert_close(ours[inner], expected.reshape(*fine, len(native))[inner], tolerance)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="multiple of 6"):
        SinCosPositions(hidden_size=16, grid_size=(2, 3, 5))
    with pytest.raises(ValueError, match="sincos, learnable"):
        create_positions("rotary", hidden_size=12, grid_size=(2, 3))
