"""Left stays left: under every order of the axes and turns of the patient, and with a patient off the centre."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from seqnorm_monai.data import LoadStudyd
from seqnorm_monai.data.breast import BreastSideError, CropBreast, CropBreastd, body_mask, midline

# voxels, and mm along each of them, of a volume in RAS
SHAPE, SPACING = (80, 56, 24), (4.5, 5.0, 7.0)
SIZE = (36, 40, 20)
# where the marked voxel lies in the left breast, in mm towards right, front and top
MARKER = np.array([-75.0, 60.0, 6.0])
SIGNS = list(itertools.product((1, -1), repeat=3))
ORDERS = list(itertools.permutations(range(3)))


def patient(shift: float = 0.0, turn: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A chest with two breasts, and one bright voxel in the left one: (x, y, z) in RAS order, and the affine.

    `shift`: mm that the patient lies to the right; `turn`: a rotation of the patient within the scanner.
    """
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = -np.array(SPACING) * (np.array(SHAPE) - 1) / 2
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    places = grid @ affine[:3, :3].T + affine[:3, 3]
    own = places @ (np.eye(3) if turn is None else turn) - (shift, 0, 0)
    x, y, z = np.moveaxis(own, -1, 0)
    chest = ((x / 150) ** 2 + ((y + 90) / 85) ** 2 < 1) & (abs(z) < 80)
    breasts = [((x - c) / 60) ** 2 + ((y - 20) / 75) ** 2 + (z / 75) ** 2 < 1 for c in (-75, 75)]
    values = 30.0 * (chest | breasts[0] | breasts[1]) + np.random.default_rng(1).random(SHAPE)
    values[np.unravel_index(np.linalg.norm(own - MARKER, axis=-1).argmin(), SHAPE)] = 1000
    return values.astype(np.float32), affine


def place_of_marker(image: MetaTensor) -> np.ndarray:
    """Where the brightest voxel lies, by the affine alone."""
    index = np.unravel_index(int(image[0].argmax()), image.shape[1:])
    return (np.asarray(image.affine, dtype=np.float64) @ np.array([*index, 1.0]))[:3]


def reordered(values: np.ndarray, affine: np.ndarray, order: tuple[int, ...], signs: tuple[int, ...]) -> MetaTensor:
    """The same volume with its axes in another order and direction."""
    moved = values.transpose(order)
    columns, origin = affine[:, list(order)], affine[:, 3].copy()
    for axis, sign in enumerate(signs):
        if sign < 0:
            moved = np.flip(moved, axis)
            origin = origin + (moved.shape[axis] - 1) * columns[:, axis]
            columns = columns.copy()
            columns[:, axis] *= -1
    matrix = np.column_stack([columns, origin])
    return MetaTensor(torch.from_numpy(moved[None].copy()), affine=torch.from_numpy(matrix))


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("signs", SIGNS, ids=str)
def test_left_stays_left_in_all_orders_of_the_axes(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    values, affine = patient()
    image = reordered(values, affine, order, signs)
    truth = place_of_marker(image)
    assert truth[0] < -40
    left, right = (CropBreast(SIZE)(image, side) for side in ("left", "right"))
    assert left.shape == right.shape == (1, *SIZE)
    assert left.max() == 1000
    assert right.max() < 50
    np.testing.assert_allclose(place_of_marker(left), truth, atol=1e-4)
    # the same voxels, whatever the order was
    plain = CropBreast(SIZE)(reordered(values, affine, (0, 1, 2), (1, 1, 1)), "left")
    assert torch.equal(left.as_tensor(), plain.as_tensor())


def rotation(axis: int, degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    one, two = (other for other in range(3) if other != axis)
    matrix = np.eye(3)
    matrix[one, one] = matrix[two, two] = np.cos(angle)
    matrix[one, two], matrix[two, one] = -np.sin(angle), np.sin(angle)
    return matrix


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("degrees", [-20, -9, 13, 20])
def test_left_stays_left_where_the_patient_or_the_slices_are_turned(axis: int, degrees: float) -> None:
    turn = rotation(axis, degrees)
    values, affine = patient(turn=turn)
    in_scanner = MetaTensor(torch.from_numpy(values[None]), affine=torch.from_numpy(affine))
    straight, plain = patient()
    oblique = plain.copy()
    oblique[:3] = turn @ plain[:3]
    in_slices = MetaTensor(torch.from_numpy(straight[None]), affine=torch.from_numpy(oblique))
    for image in (in_scanner, in_slices):
        left, right = (CropBreast(SIZE)(image, side) for side in ("left", "right"))
        assert left.max() == 1000
        assert right.max() < 50
        np.testing.assert_allclose(place_of_marker(left), place_of_marker(image), atol=1e-3)


@pytest.mark.parametrize("shift", [-25.0, -10.0, 10.0, 25.0])
def test_the_middle_is_that_of_the_body(shift: float) -> None:
    values, affine = patient(shift=shift)
    image = MetaTensor(torch.from_numpy(values[None]), affine=torch.from_numpy(affine))
    middle = affine[0, 0] * midline(body_mask(values)) + affine[0, 3]
    assert middle == pytest.approx(shift, abs=SPACING[0])
    left, right = (CropBreast(SIZE)(image, side) for side in ("left", "right"))
    assert left.max() == 1000
    assert right.max() < 50
    # both breasts are whole: as many voxels of the body on either side
    sizes = [int((crop > 15).sum()) for crop in (left, right)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.08)


def test_the_front_is_kept_and_the_right_side_is_mirrored() -> None:
    values, affine = patient()
    image = MetaTensor(torch.from_numpy(values[None]), affine=torch.from_numpy(affine))
    small = (SIZE[0], 14, SIZE[2])
    crops = [CropBreast(small, mirror_right=mirror)(image, "right") for mirror in (False, True)]
    front = (np.asarray(crops[0].affine) @ np.array([0, small[1] - 1, 0, 1.0]))[1]
    assert front == pytest.approx(95, abs=2 * SPACING[1]), "the breasts reach 95 mm to the front"
    assert torch.equal(crops[1].as_tensor(), crops[0].as_tensor().flip(1))
    lefts = [CropBreast(small, mirror_right=mirror)(image, "left") for mirror in (False, True)]
    assert torch.equal(lefts[0].as_tensor(), lefts[1].as_tensor())


def one_breast(centre: float, laterality: str = "") -> MetaTensor:
    """A field of view of 150 mm from right to left around one breast."""
    values, affine = patient()
    first = round((centre - 75 - affine[0, 3]) / SPACING[0])
    part = values[max(first, 0) : first + round(150 / SPACING[0])]
    affine = affine.copy()
    affine[0, 3] += max(first, 0) * SPACING[0]
    return MetaTensor(
        torch.from_numpy(part[None].copy()),
        affine=torch.from_numpy(affine),
        meta={"ImageLaterality": laterality, "filename_or_obj": "a.dcm"},
    )


@pytest.mark.parametrize(
    ("centre", "laterality", "side"), [(-75, "", "left"), (75, "", "right"), (-75, "L", "left"), (0, "R", "right")]
)
def test_an_image_of_one_breast_gives_that_one(centre: float, laterality: str, side: str) -> None:
    image = one_breast(centre, laterality)
    crop = CropBreast(SIZE)(image, side)
    assert crop.shape == (1, *SIZE)
    assert (crop > 15).sum() > 1000
    other = "left" if side == "right" else "right"
    with pytest.raises(BreastSideError, match=f"a.dcm: shows the {side} breast alone, the {other} one was asked for"):
        CropBreast(SIZE)(image, other)


def test_one_breast_without_a_side_is_refused() -> None:
    with pytest.raises(BreastSideError, match="shows one breast, and nothing tells its side"):
        CropBreast(SIZE)(one_breast(0), "left")


def test_from_a_file_by_the_dictionary_transform(tmp_path: Path) -> None:
    """NIfTI in LPI order; both sides of one study have one size."""
    values, affine = patient()
    image = nibabel.Nifti1Image(values, affine)
    turned = image.as_reoriented(nibabel.orientations.axcodes2ornt("LPI", (("L", "R"), ("P", "A"), ("I", "S"))))
    nibabel.save(turned, tmp_path / "a.nii.gz")
    load, crop = LoadStudyd("image"), CropBreastd("image", SIZE, side_key="breast")
    for side, most in (("left", 1000), ("right", 50)):
        found = crop(load({"image": tmp_path / "a.nii.gz", "breast": side}))["image"]
        assert found.shape == (1, *SIZE)
        assert (found.max() == 1000) if most == 1000 else (found.max() < 50)


def test_channels_stay_together_and_beyond_the_array_is_nothing() -> None:
    values, affine = patient()
    both = np.stack([values, -values])
    image = MetaTensor(torch.from_numpy(both), affine=torch.from_numpy(affine))
    crop = CropBreast((60, 70, 40))(image, "left")
    assert torch.equal(crop[0].as_tensor(), -crop[1].as_tensor())
    assert (crop == 0).any()


def test_the_channel_of_the_body_may_be_left_out() -> None:
    """A subtraction alone does not show where the body is."""
    values, affine = patient()
    both = MetaTensor(torch.from_numpy(np.stack([values, values * 0.5])), affine=torch.from_numpy(affine))
    for side in ("left", "right"):
        whole, part = (CropBreast(SIZE, drop_first=drop)(both, side) for drop in (False, True))
        assert torch.equal(part.as_tensor(), whole.as_tensor()[1:])
        assert np.array_equal(part.affine, whole.affine)
    with pytest.raises(ValueError, match="drop_first: the image has one channel"):
        CropBreast(SIZE, drop_first=True)(both[:1], "left")


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="argument size must be one or three numbers"):
        CropBreast((3, 4))
    with pytest.raises(ValueError, match="argument side must be left or right; got 'both'"):
        CropBreast(SIZE)(one_breast(75), "both")
