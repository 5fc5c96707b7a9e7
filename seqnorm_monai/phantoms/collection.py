"""A whole generated collection: studies in the folders of Duke-Breast-Cancer-MRI, masks, and a table of labels."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from seqnorm_monai.phantoms.breasts import BreastStudy, StudyPlan, draw_plan, generate
from seqnorm_monai.phantoms.lesions import LESIONS
from seqnorm_monai.phantoms.shapes import Grid
from seqnorm_monai.phantoms.storage import Names, axial, enhanced, pre_apart, sagittal, series_each, subtraction

SIDES = ("left", "right")
# mm that a study shows along x, y and z; of one breast along x
_VIEW, _ONE = (330.0, 132.0, 120.0), 165.0
_SHARES = {"malignant": 0.4, "benign": 0.3, "none": 0.3}
COLUMNS = ("study", "patient", "side", "label", "lesion")


@dataclass(frozen=True)
class Recipe:
    """How a collection is made; `spacing` and `diameters` (of lesions, least and greatest) in mm.

    `enhanced_only`: no classic files, of which a study has hundreds.
    """

    studies: int = 101
    spacing: tuple[float, float, float] = (3.5, 3.5, 5.0)
    diameters: tuple[float, float] = (18.0, 30.0)
    enhanced_only: bool = False
    seed: int = 0


@dataclass(frozen=True)
class _Job:
    number: int
    kinds: tuple[str, ...]
    recipe: Recipe
    root: Path

    @property
    def name(self) -> str:
        return f"Breast_MRI_{self.number:03}"

    @property
    def sides(self) -> tuple[str, ...]:
        return SIDES[: len(self.kinds)]


def write_collection(recipe: Recipe, root: Path, *, num_workers: int = 1) -> list[dict[str, str]]:
    """Write studies, `masks/NAME.nii.gz` (1 benign, 2 malignant) and `labels.csv`; the rows of the table.

    The last study is sagittal and shows the left breast alone. Every study depends on the recipe's seed and its own
    number, its lesions on the number of studies too: the same recipe gives the same bytes.
    Raises ValueError for fewer than 10 studies.
    """
    if recipe.studies < 10:
        raise ValueError(f"argument studies must be at least 10, so that each split has some; got {recipe.studies}")
    jobs = list(_jobs(recipe, root))
    if num_workers > 1:
        with ProcessPoolExecutor(num_workers) as pool:
            list(pool.map(_write_study, jobs))
    else:
        for job in jobs:
            _write_study(job)
    rows = [row for job in jobs for row in _rows(job)]
    with (root / "labels.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return rows


def _jobs(recipe: Recipe, root: Path) -> Iterator[_Job]:
    """Kinds of lesions by fixed shares, in a random order over all breasts."""
    count = 2 * recipe.studies - 1
    kinds = [kind for kind, share in _SHARES.items() for _ in range(round(share * count))]
    kinds = (kinds + ["none"] * count)[:count]
    np.random.default_rng([recipe.seed, 0]).shuffle(kinds)
    for number in range(1, recipe.studies + 1):
        yield _Job(number, tuple(kinds[2 * number - 2 : 2 * number]), recipe, root)


def plan_of(number: int, kinds: Sequence[str], recipe: Recipe) -> StudyPlan:
    """The plan of the study of a number."""
    sides = SIDES[: len(kinds)]
    seed = int(np.random.SeedSequence([recipe.seed, number]).generate_state(1)[0])
    return draw_plan(seed, dict(zip(sides, kinds, strict=True)), diameters=recipe.diameters, sides=sides)


def grid_of(plan: StudyPlan, spacing: Sequence[float]) -> Grid:
    """The field of view: both breasts, or the one that the plan shows."""
    view, centre = _VIEW, (0.0, 33.0, 0.0)
    if len(plan.sides) == 1:
        view, centre = (_ONE, *_VIEW[1:]), (plan.centre(plan.sides[0])[0], 33.0, 0.0)
    shape = tuple(round(mm / step) for mm, step in zip(view, spacing, strict=True))
    return Grid(shape, tuple(spacing), centre)


def _write_study(job: _Job) -> None:
    plan = plan_of(job.number, job.kinds, job.recipe)
    study = generate(plan, grid_of(plan, job.recipe.spacing))
    one = len(job.sides) == 1
    names = Names(job.name, job.sides[0][0].upper() if one else "")
    folder = job.root / job.name / names.uid("study")[-12:]
    planes = sagittal(study) if one else axial(study)
    way = 0 if job.recipe.enhanced_only else job.number % 40
    {1: series_each, 2: pre_apart}.get(way, enhanced)(study, planes, names, folder)
    if job.number == 41 and way:
        subtraction(study, planes, names, folder)
    _write_mask(study, job.root / "masks" / f"{job.name}.nii.gz")


def _write_mask(study: BreastStudy, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(study.mask, study.grid.affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def _rows(job: _Job) -> list[dict[str, str]]:
    """A row for each breast; lesion as ODELIA writes it: 0 none, 1 benign, 2 malignant."""
    return [
        {
            "study": job.name,
            "patient": job.name,
            "side": side,
            "label": str(int(kind == "malignant")),
            "lesion": str(LESIONS.index(kind)),
        }
        for side, kind in zip(job.sides, job.kinds, strict=True)
    ]
