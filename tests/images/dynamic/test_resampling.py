"""Other grids, T2 and registration: against places that are computed here, and against movements that are known."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from seqnorm_monai.data import LoadDynamicStudyd, find_dynamic_studies
from seqnorm_monai.images import open_sources, take_inventory
from seqnorm_monai.images.dynamic import FoundStudies, find_studies
from seqnorm_monai.images.dynamic.resampling import movement, register, resample
from seqnorm_monai.images.errors import ImageReadError
from seqnorm_monai.phantoms import Grid, draw_plan, generate
from tests.images.dynamic.test_hostile import t2
from tests.makers.dynamic_files import GRID, a_series_each, phase, write_phase


def linear(places: np.ndarray) -> np.ndarray:
    """A value that linear interpolation keeps, of places (..., 3) in mm."""
    return places @ np.array([0.3, -0.2, 0.7]) + 50


def places_of(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return grid @ affine[:3, :3].T + affine[:3, 3]


def test_values_stay_at_their_places_between_oblique_grids() -> None:
    angle = np.deg2rad(13)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    one = np.eye(4)
    one[:3, :3], one[:3, 3] = turn @ np.diag([2.0, -3.0, 4.0]), (-20, 30, -10)
    two = np.diag([1.0, 1.0, 1.5, 1.0])
    two[:3, 3] = (-4, 2, 0)
    volume = linear(places_of((23, 19, 11), one)).astype(np.float32)
    found = resample(volume, one, (7, 6, 5), two)
    np.testing.assert_allclose(found, linear(places_of((7, 6, 5), two)), rtol=1e-5)
    assert (resample(volume, one, (2, 2, 2), np.diag([900.0, 900, 900, 1])) == 0).any()


@pytest.mark.parametrize("millimetres", [(4.0, -3.0, 2.0), (-2.0, 2.5, 0.0), (0.0, 0.0, 0.0)])
def test_a_known_movement_is_found_through_enhancement(millimetres: tuple[float, float, float]) -> None:
    grid = Grid((66, 26, 24), (5.0, 5.0, 5.0), (0.0, 33.0, 0.0))
    plan = draw_plan(3, {"left": "malignant", "right": "none"}, movement=0.0)
    moved = generate(replace(plan, movements=((0, 0, 0), millimetres, millimetres)), grid)
    found = movement(moved.phases[1], moved.phases[0], grid.spacing)
    middle = np.array([*(np.array(grid.shape) * grid.spacing / 2), 1.0])
    np.testing.assert_allclose((found @ middle - middle)[:3], millimetres, atol=0.7)
    if any(millimetres):
        voxels = -np.array(millimetres) / grid.spacing
        expected = ndimage.shift(moved.phases[1], voxels, order=1, mode="nearest")
        back = register(moved.phases[1], moved.phases[0], grid.spacing)
        left = np.abs(back - expected).mean()
        assert left < 0.3 * np.abs(moved.phases[1] - expected).mean()


def find(folder: Path, **options: bool) -> FoundStudies:
    with open_sources(folder) as sources:
        return find_studies(take_inventory(sources), sources, (), **options)


def test_a_phase_on_another_grid_is_refused_or_resampled(tmp_path: Path) -> None:
    a_series_each(tmp_path, numbers=range(2))
    shifted = replace(GRID, origin=tuple(np.add(GRID.origin, (0.65, 0.35, 1.25))))
    write_phase(tmp_path, 2, phase(2, SeriesNumber=202), grid=shifted)
    (error,) = find(tmp_path).refused
    assert "corners" in error.reason
    (study,) = find(tmp_path, any_grid=True).studies
    assert [one.role for one in study.phases] == ["pre", "post_1", "post_2"]
    image = study.read(["pre", "post_2"])
    pre, other = (one.entry.read() for one in (study.phases[0], study.phases[2]))
    voxels = (np.linalg.inv(other.affine) @ image.affine)[:3]
    index = np.stack(np.meshgrid(*map(np.arange, pre.pixels.shape[1:]), indexing="ij"))
    places = np.tensordot(voxels[:, :3], index, 1) + voxels[:, 3, None, None, None]
    expected = ndimage.map_coordinates(other.pixels[0], places, order=1, mode="constant")
    np.testing.assert_allclose(image.pixels[1], expected, rtol=1e-4)
    np.testing.assert_array_equal(image.pixels[0], pre.pixels[0])
    load = LoadDynamicStudyd("image", ["sub_2"], any_grid=True)
    np.testing.assert_allclose(load({"image": tmp_path})["image"][0], expected - pre.pixels[0], rtol=1e-4, atol=1.0)


def test_t2_is_a_channel_where_it_is_asked_for(tmp_path: Path) -> None:
    a_series_each(tmp_path)
    items = [item for item in find_dynamic_studies(tmp_path) if "unreadable" not in item]
    with pytest.raises(ImageReadError, match="channel t2: there is none"):
        LoadDynamicStudyd("image", ["pre", "t2"])(items[0])
    t2(tmp_path)
    found = find(tmp_path)
    (study,) = found.studies
    image = study.read(["post_1", "t2"])
    # written with the values of the first phase
    np.testing.assert_array_equal(image.pixels[1], study.read(["pre"]).pixels[0])
    assert {record.reason for record in found.files} == {
        "T2-weighted, no phase: read where the channel t2 is asked for"
    }
    scaled = LoadDynamicStudyd("image", ["t2"], percentiles=(0, 100))({"image": tmp_path})["image"]
    assert (float(scaled.min()), float(scaled.max())) == (0, 1)


def test_t2_of_nifti_studies_on_a_grid_of_its_own(tmp_path: Path) -> None:
    """As ODELIA has it: Pre, Post_1, T2."""
    affine, fine = np.diag([2.0, 2.0, 3.0, 1.0]), np.diag([1.0, 1.0, 1.0, 1.0])
    for name in ("Pre", "Post_1"):
        nibabel.save(nibabel.Nifti1Image(np.ones((7, 6, 5), np.float32), affine), tmp_path / f"{name}.nii.gz")
    values = linear(places_of((20, 18, 16), fine)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, fine), tmp_path / "T2.nii.gz")
    (study,) = find(tmp_path).studies
    np.testing.assert_allclose(study.read(["t2"]).pixels[0], linear(places_of((7, 6, 5), affine)), rtol=1e-5)
    assert any(str(name).endswith("T2.nii.gz") for name in study.origins), "a cache sees that it changed"


def test_registered_subtractions_leave_less_of_the_movement(tmp_path: Path) -> None:
    from seqnorm_monai.phantoms.storage import Names, axial, enhanced

    grid = Grid((66, 26, 24), (5.0, 5.0, 5.0), (0.0, 33.0, 0.0))
    plan = draw_plan(3, {"left": "none", "right": "none"}, movement=0.0)
    moved = replace(plan, background=0.0, movements=((0, 0, 0), (4.0, 3.0, 0.0), (0, 0, 0)))
    study = generate(moved, grid)
    enhanced(study, axial(study), Names("a"), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, two = (
            LoadDynamicStudyd("image", ["sub_1"], registered=on)({"image": tmp_path})["image"] for on in (False, True)
        )
    assert one.shape == two.shape
    assert float(two.abs().mean()) < 0.8 * float(one.abs().mean())
