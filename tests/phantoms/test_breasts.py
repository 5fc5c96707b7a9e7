"""Generated breasts: the truth that is planted is the truth that the files hold."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.data import MetaTensor
from sklearn.metrics import roc_auc_score

from seqnorm_monai.data import CropBreast, LoadDynamicStudyd, find_breasts
from seqnorm_monai.phantoms import Grid, draw_plan, generate
from seqnorm_monai.phantoms.collection import Recipe, grid_of, plan_of, write_collection
from seqnorm_monai.phantoms.storage import Names, axial, enhanced, pre_apart, sagittal, series_each

GRID = Grid((94, 38, 24), (3.5, 3.5, 5.0), (0.0, 33.0, 0.0))
KINDS = {"left": "malignant", "right": "benign"}
CHANNELS = ["pre", "post_1", "post_2"]


def in_mask(study: np.ndarray, mask: np.ndarray, value: int) -> np.ndarray:
    return study[:, mask == value].mean(axis=1)


@pytest.mark.parametrize("write", [series_each, pre_apart, enhanced])
@pytest.mark.parametrize("planes", [axial, sagittal])
def test_every_storage_gives_every_voxel_at_its_place(write: object, planes: object, tmp_path: Path) -> None:
    """Against the generated array, by the affine alone."""
    study = generate(draw_plan(3, KINDS), GRID)
    write(study, planes(study), Names("a"), tmp_path)
    image = LoadDynamicStudyd("image", CHANNELS)({"image": tmp_path})["image"]
    index = np.argwhere(np.ones(GRID.shape, dtype=bool))[::7]
    places = index @ GRID.affine[:3, :3].T + GRID.affine[:3, 3]
    inverse = np.linalg.inv(np.asarray(image.affine, dtype=np.float64))
    found = places @ inverse[:3, :3].T + inverse[:3, 3]
    np.testing.assert_allclose(found, found.round(), atol=1e-3)
    x, y, z = found.round().astype(int).T
    values = image.numpy()[:, x, y, z]
    np.testing.assert_array_equal(values, study.phases[:, index[:, 0], index[:, 1], index[:, 2]])


def test_malignant_washes_out_and_benign_goes_on_rising() -> None:
    for seed in range(6):
        study = generate(draw_plan(seed, KINDS, movement=0.0), GRID)
        pre, first, last = in_mask(study.phases, study.mask, 2)
        assert first > 1.5 * pre
        assert last - pre < 0.75 * (first - pre)
        pre, first, last = in_mask(study.phases, study.mask, 1)
        assert first > 1.5 * pre
        assert last - pre > 1.1 * (first - pre)


def test_a_plan_gives_the_same_study_again_and_another_seed_another() -> None:
    one, same, other = (generate(draw_plan(seed, KINDS), GRID) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.phases, same.phases)
    assert (one.phases != other.phases).any()


def test_the_patient_moves_between_the_phases() -> None:
    still, moving = (generate(draw_plan(5, KINDS, movement=mm), GRID) for mm in (0.0, 4.0))
    np.testing.assert_array_equal(still.phases[0], moving.phases[0])
    assert np.abs(still.phases[1] - moving.phases[1]).mean() > 1


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collection")
    write_collection(Recipe(studies=12, spacing=(5.0, 5.0, 8.0)), folder, num_workers=2)
    return folder


def test_a_collection_is_read_whole_and_its_labels_are_on_their_sides(small: Path) -> None:
    with (small / "labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    items = [item for item in find_breasts(small) if "unreadable" not in item]
    assert len(rows) == len(items) == 23
    assert {(row["study"], row["side"]) for row in rows} == {
        (Path(item["path"]).relative_to(small).parts[0], item["side"]) for item in items
    }
    for row in rows:
        mask = nibabel.load(small / "masks" / f"{row['study']}.nii.gz")
        values = np.asarray(mask.dataobj)
        middle = plan_of(int(row["study"][-3:]), ("none", "none"), Recipe()).offset
        x = mask.affine[0, 0] * np.arange(values.shape[0]) + mask.affine[0, 3]
        own = values[x < middle] if row["side"] == "left" else values[x > middle]
        if len({one["side"] for one in rows if one["study"] == row["study"]}) == 2:
            assert int(own.max()) == int(row["lesion"])


def test_the_same_recipe_gives_the_same_bytes(small: Path, tmp_path: Path) -> None:
    write_collection(Recipe(studies=12, spacing=(5.0, 5.0, 8.0)), tmp_path)
    files = [path for path in sorted(small.rglob("*")) if path.suffix in (".dcm", ".csv")]
    assert len(files) > 50
    for path in files:
        assert (tmp_path / path.relative_to(small)).read_bytes() == path.read_bytes()


def test_size_and_brightness_do_not_give_the_label_away() -> None:
    """Rules of a line, on breasts that are cropped as the training crops them."""
    labels, rules = [], {"brightest voxel": [], "volume of the breast": [], "mean enhancement": []}
    crop = CropBreast((40, 28, 24))
    for number in range(60):
        kinds = [("malignant", "none"), ("none", "malignant"), ("malignant", "benign"), ("benign", "none")][number % 4]
        plan = plan_of(number, kinds, Recipe())
        study = generate(plan, grid_of(plan, Recipe.spacing))
        image = MetaTensor(study.phases, affine=study.grid.affine)
        for side, kind in zip(("left", "right"), kinds, strict=True):
            pre, first, _ = crop(image, side).numpy()
            labels.append(kind == "malignant")
            rules["brightest voxel"].append((first - pre).max())
            rules["volume of the breast"].append((pre > 0).mean())
            rules["mean enhancement"].append((first - pre).mean())
    for name, values in rules.items():
        assert 0.3 < roc_auc_score(labels, values) < 0.7, name


def test_too_few_studies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="studies must be at least 10"):
        write_collection(Recipe(studies=3), tmp_path)
