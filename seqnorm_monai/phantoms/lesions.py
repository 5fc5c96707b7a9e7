"""Lesions, and how tissues take up the contrast agent: relative enhancement against seconds after its arrival."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from seqnorm_monai.phantoms.shapes import Grid, Volume, ellipsoid, inside, smooth_noise

# in the order of the classes
LESIONS = ("none", "benign", "malignant")


@dataclass(frozen=True)
class Lesion:
    """`kind`: one of `LESIONS` but none; `centre` and `radii` in mm; `seed` of its surface.

    `enhancement`: relative, at the first phase after the agent; `slope`: by what it is multiplied until the last one.
    """

    kind: str
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    enhancement: float
    slope: float
    roughness: float
    seed: int


def draw_lesion(
    random: np.random.Generator, kind: str, centre: tuple[float, float, float], diameters: tuple[float, float]
) -> Lesion:
    """A lesion: both kinds have the same sizes and the same first enhancement, and differ in what follows.

    Malignant ones wash out (the enhancement falls to 35 to 60 % until the last phase) and have a rough surface; benign
    ones go on rising (130 to 170 %) and are smooth. Our reading of the kinetic curves of BI-RADS (types 3 and 1).
    """
    radius = random.uniform(*diameters) / 2
    radii = tuple(float(radius * factor) for factor in random.uniform(0.8, 1.2, 3))
    malignant = kind == "malignant"
    return Lesion(
        kind=kind,
        centre=centre,
        radii=radii,
        enhancement=float(random.uniform(1.1, 1.9)),
        slope=float(random.uniform(0.35, 0.6) if malignant else random.uniform(1.3, 1.7)),
        roughness=float(random.uniform(0.1, 0.25) if malignant else random.uniform(0.0, 0.12)),
        seed=int(random.integers(2**31)),
    )


def lesion_share(lesion: Lesion, grid: Grid) -> Volume:
    """The share of each voxel that the lesion fills."""
    distance = ellipsoid(grid, lesion.centre, lesion.radii)
    rough = smooth_noise(np.random.default_rng(lesion.seed), grid, scale=max(lesion.radii))
    # no further than a third: where the noise is deep, a far voxel would be part of the lesion
    surface = np.clip(1 + lesion.roughness * rough, 0.67, 1.33)
    return inside(distance * surface, float(max(grid.spacing) / max(lesion.radii)) / 2)


def two_points(first: float, slope: float, moments: tuple[float, float]) -> Callable[[float], float]:
    """A curve through `first` at the first moment after the agent, and `slope` times it at the last one.

    Linear between them, and a steep rise before: 0 at the arrival.
    """
    begin, end = moments

    def curve(seconds: float) -> float:
        if seconds <= 0:
            return 0.0
        if seconds <= begin:
            return first * (1 - float(np.exp(-5 * seconds / begin)))
        share = 1.0 if end <= begin else min(1.0, (seconds - begin) / (end - begin))
        return first * (1 + (slope - 1) * share)

    return curve
