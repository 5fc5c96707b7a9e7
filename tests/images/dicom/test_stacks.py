"""Stacks of one series: several orientations, slabs, places; each a volume of its own, or the series is refused."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.makers.series_files import Grid, check_placed, only_reason, study, volumes, write_classic

GRID = Grid()


def test_localizer_of_three_planes_is_three_stacks(tmp_path: Path) -> None:
    """Three orientations in one series, each a volume of its own."""
    x, y, z = np.eye(3)
    grids = [
        Grid(row=tuple(x), column=tuple(y), step=tuple(5 * z), slices=3),
        Grid(row=tuple(y), column=tuple(-z), step=tuple(5 * x), slices=3),
        Grid(row=tuple(x), column=tuple(-z), step=tuple(5 * y), slices=3),
    ]
    paths = [
        path
        for number, grid in enumerate(grids)
        for path in write_classic(
            tmp_path / str(number),
            grid,
            stem=f"{number}",
            each=lambda phase, place, number=number: {
                "SOPInstanceUID": f"1.2.3.4.{number}.{place}",
                "InstanceNumber": number,
            },
        )
    ]
    random.Random(1).shuffle(paths)
    found = volumes(study(paths))
    assert len(found) == 3
    for volume, grid in zip(found, grids, strict=True):
        check_placed(volume, grid)


def slabs(folder: Path, gap: float, acquisition: bool = True, start: int = 0) -> list[Path]:
    """Two slabs of three slices, the second `gap` mm above the last slice of the first."""
    paths = []
    for number in range(2):
        origin = (-31.0, 17.0, 43.0 + number * (2 * 2.5 + gap))
        paths += write_classic(
            folder / str(number),
            replace(Grid(slices=3), origin=origin),
            stem=f"{number}",
            each=lambda phase, place, number=number: {
                "SOPInstanceUID": f"1.2.3.4.{number}.{place}",
                **({"AcquisitionNumber": number} if acquisition else {}),
            },
        )
    return paths


def test_slabs_of_two_acquisitions_far_apart_are_two_volumes(tmp_path: Path) -> None:
    first, second = volumes(study(slabs(tmp_path, 40.0)[::-1]))
    check_placed(first, Grid(slices=3))
    check_placed(second, replace(Grid(slices=3), origin=(-31.0, 17.0, 88.0)))


@pytest.mark.parametrize(("gap", "acquisition"), [(40.0, False), (5.0, True), (7.5, True)])
def test_hole_that_may_be_missing_slices_is_refused(gap: float, acquisition: bool, tmp_path: Path) -> None:
    assert "missing between 48.00" in only_reason(study(slabs(tmp_path, gap, acquisition)))


def test_stacks_beside_each_other_are_two_volumes(tmp_path: Path) -> None:
    """Two knees in one series: the same heights, another place in the plane; neither phases nor one volume."""
    grids = [GRID, replace(GRID, origin=(60.0, 17.0, 43.0))]
    paths = [
        path
        for number, grid in enumerate(grids)
        for path in write_classic(
            tmp_path / str(number),
            grid,
            each=lambda phase, place, number=number: {
                "SOPInstanceUID": f"1.2.3.4.{number}.{place}",
                "InstanceNumber": 10 * number + place + 1,
                "AcquisitionNumber": number,
            },
        )
    ]
    sources = [path.rename(tmp_path / f"{number}.dcm") for number, path in enumerate(paths)]
    found = volumes(study(sources[::-1]))
    assert len(found) == 2
    for volume, grid in zip(found, grids, strict=True):
        check_placed(volume, grid)
        assert volume.phase_label == ""


def test_slice_out_of_line_is_refused(tmp_path: Path) -> None:
    paths = write_classic(
        tmp_path,
        GRID,
        each=lambda phase, number: {"ImagePositionPatient": [-31 + 4 * (number == 2), 17, 43 + 2.5 * number]},
    )
    assert "not lie on one straight line" in only_reason(study(paths))


def test_spacing_up_to_noise_is_one_stack_and_else_two(tmp_path: Path) -> None:
    def each(step: float) -> Any:  # noqa: ANN401
        return lambda phase, number: {"PixelSpacing": [0.7 + step * (number > 2), 1.3]}

    (volume,) = volumes(study(write_classic(tmp_path / "a", GRID, each=each(1e-4))))
    assert volume.shape == (5, 7, 3)
    found = volumes(study(write_classic(tmp_path / "b", GRID, each=each(0.1))))
    assert [volume.shape[0] for volume in found] == [3, 2]
