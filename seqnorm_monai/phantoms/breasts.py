"""A generated dynamic contrast study of both breasts, or of one: what is in it, and its voxels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from seqnorm_monai.phantoms.lesions import Lesion, draw_lesion, lesion_share, two_points
from seqnorm_monai.phantoms.shapes import Grid, Volume, ellipsoid, inside, moved, smooth_noise, tube

# grey values of tissues before the contrast agent, with fat suppressed
_FAT, _GLAND, _MUSCLE, _SKIN = 24.0, 50.0, 42.0, 37.0
_NOISE, _AIR = 0.6, 4.0
# x of left and right: x grows towards the right of the patient
_SIGNS = {"left": -1.0, "right": 1.0}


@dataclass(frozen=True)
class StudyPlan:
    """What a study shows, in mm and seconds; everything that is random beside it follows from `seed`.

    `lesions`: of a side, at most one; a side without one is not in it. `sides`: those that are shown. `seconds`: of
    each phase since the first, which is before the agent. `movements`: of the patient until each phase.
    """

    seed: int
    offset: float
    radii: tuple[float, float, float]
    density: float
    background: float
    lesions: Mapping[str, Lesion]
    seconds: tuple[float, ...]
    movements: tuple[tuple[float, float, float], ...]
    sides: tuple[str, ...] = ("left", "right")

    def centre(self, side: str) -> tuple[float, float, float]:
        """The middle of the base of a breast."""
        return (self.offset + _SIGNS[side] * (self.radii[0] + 8.0), 0.0, 0.0)


@dataclass(frozen=True)
class BreastStudy:
    """`phases` (phases, x, y, z), whole numbers of at least 0; `mask` (x, y, z): 0, or 1 benign, 2 malignant."""

    plan: StudyPlan
    grid: Grid
    phases: Volume
    mask: np.ndarray = field(repr=False)


def draw_plan(
    seed: int,
    kinds: Mapping[str, str],
    *,
    diameters: tuple[float, float] = (18.0, 30.0),
    num_phases: int = 3,
    movement: float = 0.7,
    sides: tuple[str, ...] = ("left", "right"),
) -> StudyPlan:
    """A plan in which each side has a lesion of its kind of `LESIONS`; `movement`: deviation in mm along each axis.

    The size of the breasts, the share of gland and the enhancement of the background do not know the kind.
    """
    random = np.random.default_rng([seed, 1])
    radii = tuple(float(value) for value in random.uniform((48, 55, 46), (66, 92, 60)))
    offset = float(random.uniform(-14, 14)) if len(sides) == 2 else 0.0
    first, last = float(random.uniform(75, 110)), float(random.uniform(300, 420))
    seconds = (0.0, *np.linspace(first, last, num_phases - 1).round(1).tolist())
    steps = random.normal(0, movement, (num_phases, 3))
    steps[0] = 0
    plan = StudyPlan(
        seed=seed,
        offset=offset,
        radii=radii,
        density=float(random.uniform(0.15, 0.6)),
        background=float(random.uniform(0.05, 0.35)),
        lesions={},
        seconds=seconds,
        movements=tuple(tuple(map(float, step)) for step in steps),
        sides=sides,
    )
    lesions = {}
    for side in sides:
        place = _place(random, plan, side)
        if kinds[side] != "none":
            lesions[side] = draw_lesion(random, kinds[side], place, diameters)
    return StudyPlan(**{**plan.__dict__, "lesions": lesions})


def _place(random: np.random.Generator, plan: StudyPlan, side: str) -> tuple[float, float, float]:
    """Somewhere in the breast, away from its skin and from the wall of the chest."""
    while True:
        parts = random.uniform((-0.65, 0.2, -0.65), (0.65, 0.8, 0.65))
        if np.linalg.norm(parts) < 0.72:
            found = np.array(plan.centre(side)) + parts * np.array(plan.radii)
            return tuple(float(value) for value in found)


def generate(plan: StudyPlan, grid: Grid) -> BreastStudy:
    """The voxels of a plan.

    Signal = coil * tissue * (1 + enhancement(t)) + noise, each phase moved by its movement; air is 0, as scanners that
    mask the background write it. A generated study is no simulation of a scanner: it has the difficulties that a
    classifier meets: vessels and a heart that enhance and wash out, glands that enhance like a benign lesion.
    """
    random = np.random.default_rng([plan.seed, 2])
    before, rising = _tissues(plan, grid, random)
    mask = np.zeros(grid.shape, dtype=np.uint8)
    moments = (plan.seconds[1], plan.seconds[-1])
    for lesion in plan.lesions.values():
        share = lesion_share(lesion, grid)
        before += share * (_GLAND - before)
        rising = [(part * (1 - share), curve) for part, curve in rising]
        rising.append((share, two_points(lesion.enhancement, lesion.slope, moments)))
        mask[share >= 0.5] = 1 if lesion.kind == "benign" else 2
    coil = _coil(plan, grid, random)
    phases = []
    for seconds, movement in zip(plan.seconds, plan.movements, strict=True):
        enhancement = sum(part * curve(seconds) for part, curve in rising)
        signal = moved(coil * before * (1 + enhancement), grid, movement)
        signal += random.normal(0, _NOISE, grid.shape).astype(np.float32)
        phases.append(np.where(signal < _AIR, 0, np.round(signal)))
    return BreastStudy(plan, grid, np.stack(phases).astype(np.float32), mask)


Rising = list[tuple[Volume, Callable[[float], float]]]


def _tissues(plan: StudyPlan, grid: Grid, random: np.random.Generator) -> tuple[Volume, Rising]:
    """The values before the agent, and what enhances: its share of each voxel, and its curve."""
    soft = float(max(grid.spacing)) / min(plan.radii)
    _, y, _ = grid.axes()
    chest = inside(ellipsoid(grid, (plan.offset, -95.0, 0.0), (165.0, 98.0, 400.0)), soft / 2)
    breasts, own = np.zeros(grid.shape, np.float32), {}
    for side in plan.sides:
        shape = inside(ellipsoid(grid, plan.centre(side), plan.radii), soft)
        own[side] = shape * np.clip((y + 12) / 6, 0, 1)
        breasts = np.maximum(breasts, own[side])
    skin = np.clip(breasts - ndimage.uniform_filter(breasts, 3), 0, 0.5) * 1.2
    muscle = chest * np.clip((6 - y) / 6, 0, 1)
    threshold = float(np.quantile(np.random.default_rng(0).standard_normal(4096), 1 - plan.density))
    nest = np.clip((smooth_noise(random, grid, 22.0) - threshold) / 0.5, 0, 1)
    core = np.maximum.reduce([_core(plan, grid, side) for side in plan.sides])
    gland = nest * core * breasts * (1 - muscle)
    body = np.maximum(breasts, chest)
    values = _FAT * body + (_GLAND - _FAT) * gland + (_MUSCLE - _FAT) * muscle + (_SKIN - _FAT) * skin
    values *= 1 + 0.06 * smooth_noise(random, grid, 40.0)
    moments = (plan.seconds[1], plan.seconds[-1])
    patches = np.clip(1 + 0.7 * smooth_noise(random, grid, 16.0), 0, 3)
    rising: Rising = [(gland * patches, two_points(plan.background, random.uniform(1.3, 2.0), moments))]
    rising += _vessels(plan, grid, random, own, moments)
    heart = inside(ellipsoid(grid, (plan.offset - 32, -44, -20), (48, 32, 55)), soft)
    rising.append((heart, two_points(random.uniform(1.6, 2.6), random.uniform(0.6, 0.85), moments)))
    rising.append((skin, two_points(0.25, 1.4, moments)))
    return values.astype(np.float32), rising


def _core(plan: StudyPlan, grid: Grid, side: str) -> Volume:
    """Where gland may be: not below the skin."""
    x, y, z = plan.centre(side)
    return inside(ellipsoid(grid, (x, y + 8, z), [0.82 * radius for radius in plan.radii]), 0.2)


def _vessels(
    plan: StudyPlan, grid: Grid, random: np.random.Generator, own: Mapping[str, Volume], moments: tuple[float, float]
) -> Rising:
    """Vessels of each breast, the internal mammary ones, and a nipple; they enhance early and wash out."""
    found: Rising = []
    for side in plan.sides:
        centre, radii = np.array(plan.centre(side)), np.array(plan.radii)
        for _ in range(int(random.integers(2, 5))):
            parts = np.linspace((random.uniform(-0.5, 0.5), 0.0, random.uniform(-0.5, 0.5)), (0, 0.85, 0), 6)
            parts[1:-1] += random.normal(0, 0.1, (4, 3))
            share = tube(grid, centre + parts * radii, random.uniform(1.2, 2.2)) * own[side]
            found.append((share, two_points(random.uniform(1.0, 2.4), random.uniform(0.8, 1.1), moments)))
        line = np.array([[plan.offset + _SIGNS[side] * 22, -8, z] for z in np.linspace(-90, 90, 7)])
        found.append((tube(grid, line, 2.0), two_points(random.uniform(1.4, 2.4), random.uniform(0.6, 0.9), moments)))
        nipple = inside(ellipsoid(grid, centre + (0, 0.93, 0) * radii, (6, 5, 6)), 0.5)
        found.append((nipple * own[side], two_points(random.uniform(0.4, 1.2), random.uniform(0.9, 1.5), moments)))
    return found


def _coil(plan: StudyPlan, grid: Grid, random: np.random.Generator) -> Volume:
    """The sensitivity of a breast coil: strong in front, other on both sides."""
    x, y, _ = grid.axes()
    slope, lean = random.uniform(0.001, 0.004), random.uniform(-0.0008, 0.0008)
    shading = np.exp(slope * y + lean * (x - plan.offset)) * (1 + 0.05 * smooth_noise(random, grid, 90.0))
    return shading.astype(np.float32)
