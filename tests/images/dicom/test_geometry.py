"""Where voxels lie: any orientation, spacing, number of slices and phases, and any order of files."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqnorm_monai.images.dicom.geometry import GeometryError, position_labels, slice_normal, stack_geometry
from tests.makers.reading import load_volume
from tests.makers.series_files import (
    Grid,
    check_placed,
    expected,
    itk_series,
    only_reason,
    rotated,
    study,
    volumes,
    write_classic,
    write_enhanced,
)

SOME = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def rotation(quaternion: tuple[float, ...]) -> np.ndarray:
    """The rotation matrix of a quaternion that need not have length 1."""
    w, x, y, z = np.array(quaternion) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


@st.composite
def orientations(draw: st.DrawFn) -> np.ndarray:
    """Rows: directions of a row, of a column, and of the normal, or its opposite: files may count slices downwards."""
    part = st.floats(-1, 1)
    axes = rotation(draw(st.tuples(part, part, part, part).filter(lambda q: np.linalg.norm(q) > 0.1)))
    if draw(st.booleans()):
        axes = np.eye(3)[draw(st.permutations((0, 1, 2)))]
    axes = axes * np.array([draw(st.sampled_from((-1, 1))) for _ in range(3)])[:, None]
    return axes


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    length = st.floats(0.1, 9.0)
    lean = draw(st.sampled_from(((0.0, 0.0), (0.0, 0.6), (-0.2, 0.1))))
    grid = Grid(
        slices=draw(st.integers(1, 8)),
        rows=draw(st.integers(1, 5)),
        columns=draw(st.integers(1, 5)),
        origin=tuple(draw(st.floats(-500, 500)) for _ in range(3)),
        spacing=(draw(length), draw(length)),
    )
    distance = draw(length)
    return rotated(grid, draw(orientations()), distance, lean=np.multiply(lean, distance))


@SOME
@given(grid=grids(), phases=st.integers(1, 4), random=st.randoms(use_true_random=False))
def test_any_grid_in_any_order_of_files(grid: Grid, phases: int, random: Random) -> None:
    """The affine maps every voxel to where the generator put it; slices rise along the normal."""
    with tempfile.TemporaryDirectory() as folder:
        paths = write_classic(Path(folder), grid, [{"TemporalPositionIdentifier": n + 1} for n in range(phases)])
        random.shuffle(paths)
        found = volumes(study(paths))
        assert len(found) == phases
        for number, volume in enumerate(found):
            check_placed(volume, grid, number)
            assert volume.kind == ("image" if grid.slices == 1 else "volume")


@SOME
@given(grid=grids(), phases=st.integers(1, 4), shared=st.booleans(), random=st.randoms(use_true_random=False))
def test_enhanced_form_of_any_grid_is_the_same(grid: Grid, phases: int, shared: bool, random: Random) -> None:
    frames = [(phase, number) for phase in range(phases) for number in range(grid.slices)]
    random.shuffle(frames)
    with tempfile.TemporaryDirectory() as folder:
        classic = write_classic(
            Path(folder),
            grid,
            [{"AcquisitionNumber": n} for n in range(phases)],
            each=lambda p, n: {"SliceThickness": 1},
        )
        enhanced = write_enhanced(
            Path(folder) / "e.dcm",
            grid,
            [{}] * phases,
            shared=shared,
            order=frames,
            content=lambda phase, number: {"TemporalPositionIndex": phase + 1},
        )
        one, two = volumes(study(classic)), volumes(study([enhanced]))
        assert len(one) == len(two) == phases
        for number, (first, second) in enumerate(zip(one, two, strict=True)):
            check_placed(second, grid, number)
            first_image, second_image = load_volume(first), load_volume(second)
            np.testing.assert_array_equal(first_image.numpy(), second_image.numpy())
            np.testing.assert_array_equal(first_image.affine.numpy(), second_image.affine.numpy())


@pytest.mark.parametrize(
    "quaternion", [(1, 0, 0, 0), (0.9, 0.2, -0.3, 0.1), (0.1, 0.7, 0.7, -0.2), (-0.5, 0.5, 0.4, 0.6)]
)
def test_itk_places_a_series_at_the_same_points(quaternion: tuple[float, ...], tmp_path: Path) -> None:
    grid = rotated(Grid(), rotation(quaternion), 3.7)
    paths = write_classic(tmp_path, grid)
    (volume,) = volumes(study(paths[::-1]))
    tensor = check_placed(volume, grid)
    pixels, affine = itk_series(tmp_path)
    np.testing.assert_allclose(tensor.affine.numpy(), affine, atol=1e-6)
    np.testing.assert_array_equal(tensor[0].numpy(), pixels)


def positions(*values: float) -> list[tuple[float, float, float]]:
    return [(0.0, 0.0, value) for value in values]


AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("places", "reason"),
    [
        (positions(0, 2, 4, 8, 10), "1 slice missing between 4.00 and 8.00 mm, usual distance 2.00 mm"),
        (positions(0, 2, 4, 12, 14, 16), "3 slices missing between 4.00 and 12.00 mm"),
        (positions(0, 2, 4, 6, 8.9), "uneven slice distances: 2.000 to 2.900 mm"),
        (positions(0, 2, 2.005, 4), "two slices lie at one position, 2.00 mm"),
        ([(0, 0, 0), (0, 0, 2), (5, 0, 4), (0, 0, 6)], "not lie on one straight line"),
        ([(0, 0, 0), (0, 0, 2), (0.3, 0, 4), (0.6, 0, 6)], "not lie on one straight line"),
    ],
)
def test_what_is_no_volume_is_refused(places: list[tuple[float, float, float]], reason: str) -> None:
    with pytest.raises(GeometryError, match=reason):
        stack_geometry(places, AXIAL, (1.0, 1.0), None)


@pytest.mark.parametrize("noise", [0.0, 0.005, 0.0099])
def test_positions_written_with_two_decimals_are_uniform(noise: float) -> None:
    geometry = stack_geometry(positions(0, 1 + noise, 2 - noise, 3), AXIAL, (1.0, 1.0), None)
    assert geometry.spacing == (1.0, 1.0, 1.0) and not geometry.sheared


def test_small_drift_is_kept_over_a_long_stack() -> None:
    """0.8 um per mm of drift over 300 mm: the last slice lies where its file says."""
    places = [(0.0, 0.0008 * n, float(n)) for n in range(301)]
    geometry = stack_geometry(places, AXIAL, (1.0, 1.0), None)
    np.testing.assert_allclose(np.array(geometry.affine) @ (0, 0, 300, 1), (*places[-1], 1), rtol=1e-6, atol=1e-9)


def test_tilted_gantry_is_sheared() -> None:
    places = [(0.0, 0.5 * n, 2.0 * n) for n in range(7)]
    geometry = stack_geometry(places[::-1], AXIAL, (0.5, 0.25), None)
    assert geometry.sheared and geometry.order == (6, 5, 4, 3, 2, 1, 0)
    np.testing.assert_allclose(np.array(geometry.affine)[:3], [[0.25, 0, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 2, 0]])
    np.testing.assert_allclose(geometry.spacing, (0.25, 0.5, np.hypot(0.5, 2.0)))


@pytest.mark.parametrize(
    "orientation", [(1, 0, 0, 0.1, 1, 0), (2, 0, 0, 0, 1, 0), (0, 0, 0, 0, 1, 0), (1, 0, 0, 1, 0, 0)]
)
def test_directions_that_are_not_orthonormal_are_refused(orientation: tuple[float, ...]) -> None:
    with pytest.raises(GeometryError, match="orthogonal directions of length 1"):
        slice_normal(orientation)


def test_positions_within_a_hundredth_are_one() -> None:
    assert position_labels(np.array([3.0, 1.0, 1.009, 3.02, -4.0])).tolist() == [2, 1, 1, 3, 0]


@pytest.mark.parametrize(("angle", "stacks"), [(0.04, 1), (2.0, 0), (20.0, 2)])
def test_slices_tilted_against_each_other(angle: float, stacks: int, tmp_path: Path) -> None:
    """Noise of cosines is one orientation, a small tilt is refused, a large one makes two stacks."""
    tilted = np.radians(angle)
    paths = write_classic(
        tmp_path,
        Grid(slices=6),
        each=lambda phase, number: (
            {"ImageOrientationPatient": [1, 0, 0, 0, float(f"{np.cos(tilted):.9f}"), float(f"{np.sin(tilted):.9f}")]}
            if number > 2
            else {}
        ),
    )
    report = study(paths)
    if stacks:
        assert len(volumes(report)) == stacks
        assert {record.status for record in report.files} == {"used"}
    else:
        assert "tilted against each other by 2.00 degrees" in only_reason(report)


def test_rescale_is_that_of_each_slice(tmp_path: Path) -> None:
    grid = Grid(slices=3)
    (volume,) = volumes(study(write_classic(tmp_path, grid)))
    np.testing.assert_array_equal(load_volume(volume)[0].numpy(), expected(grid).transpose(2, 1, 0))
