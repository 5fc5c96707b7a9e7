"""The breasts of studies as items: both, or the one that a study shows."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from seqnorm_monai.data import find_breasts
from seqnorm_monai.phantoms import Grid, draw_plan, generate
from seqnorm_monai.phantoms.storage import Names, enhanced, sagittal, series_each

KINDS = {"left": "malignant", "right": "none"}


def sides(folder: Path) -> list[str]:
    return [item.get("side", item.get("unreadable")) for item in find_breasts(folder)]


@pytest.mark.parametrize("width", [100, 300])
def test_as_many_items_as_breasts(width: float, tmp_path: Path) -> None:
    """Off the middle of the scanner, so that the side of one breast is told by its place."""
    affine = np.diag([width / 50, 4.0, 8.0, 1.0])
    affine[0, 3] = -70 - width / 2
    for name in ("Pre", "Post_1"):
        nibabel.save(nibabel.Nifti1Image(np.ones((50, 20, 9), np.float32), affine), tmp_path / f"{name}.nii.gz")
    assert sides(tmp_path) == (["left"] if width < 240 else ["left", "right"])


@pytest.mark.parametrize("write", [series_each, enhanced])
@pytest.mark.parametrize(
    ("laterality", "centre", "expected"), [("R", 70.0, "right"), ("", -70.0, "left"), ("L", 0.0, "left")]
)
def test_a_sagittal_study_of_one_breast(
    write: object, laterality: str, centre: float, expected: str, tmp_path: Path
) -> None:
    """By its header, also where that is a functional group of an enhanced file; else by its place."""
    grid = Grid((20, 20, 12), (8.0, 8.0, 10.0), (centre, 30.0, 0.0))
    study = generate(draw_plan(1, {"left": "none"}, sides=("left",)), grid)
    write(study, sagittal(study), Names("a", laterality), tmp_path)
    assert sides(tmp_path) == [expected]


def test_one_breast_whose_side_nothing_tells_is_refused_by_name(tmp_path: Path) -> None:
    affine = np.diag([4.0, 4.0, 8.0, 1.0])
    affine[0, 3] = -4.0 * 49 / 2
    for name in ("Pre", "Post_1"):
        nibabel.save(nibabel.Nifti1Image(np.ones((50, 20, 9), np.float32), affine), tmp_path / f"{name}.nii.gz")
    (item,) = find_breasts(tmp_path)
    assert item["unreadable"] == "shows one breast, and nothing tells its side"
    assert "side" not in item
    assert len(item["files"]) == 2
