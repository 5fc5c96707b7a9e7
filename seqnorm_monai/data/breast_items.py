"""The breasts of dynamic studies as items of a data set: one for each side that a study shows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seqnorm_monai.data.breast import SIDES, UNKNOWN_SIDE, VIEW_OF_BOTH, only_side
from seqnorm_monai.data.datalists import SIDE
from seqnorm_monai.data.dynamic import find_dynamic_studies
from seqnorm_monai.data.fault_tolerant import IMAGE, UNREADABLE
from seqnorm_monai.images.dynamic import DynamicStudy


def find_breasts(
    source: str | os.PathLike[str],
    rules: Mapping[str, Any] | None = None,
    *,
    any_grid: bool = False,
    exclude: Sequence[str] = (),
    num_workers: int = 0,
) -> list[dict[str, Any]]:
    """Every file below `source`, as `find_dynamic_studies` gives it, with an item for each breast of a study.

    Such an item has a `side`, left before right, one after the other, so that both cost one decoding. A study that is
    narrower than 240 mm from right to left shows one breast: its side is ImageLaterality, else the side of the
    scanner's middle on which it lies; one whose side nothing tells is an item with that reason.

    Raises what `find_dynamic_studies` raises.
    """
    items = find_dynamic_studies(source, rules, any_grid=any_grid, exclude=exclude, num_workers=num_workers)
    return [breast for item in items for breast in _breasts(item)]


def _breasts(item: dict[str, Any]) -> list[dict[str, Any]]:
    if UNREADABLE in item:
        return [item]
    sides = shown_sides(item[IMAGE])
    return [{**item, SIDE: side} for side in sides] if sides else [{**item, UNREADABLE: UNKNOWN_SIDE}]


def shown_sides(study: DynamicStudy) -> tuple[str, ...]:
    """The sides that a study shows by its header, before anything is decoded; () where one of them is not told."""
    entry = study.phases[0].entry
    if entry.row.affine is None:
        return SIDES
    affine, last = np.array(entry.row.affine), np.array(entry.row.shape[:3]) - 1
    # the width of a voxel in the axis that runs from right to left most, as the crop sees it
    axis = int(np.abs(affine[0, :3] / np.linalg.norm(affine[:3, :3], axis=0)).argmax())
    if (last[axis] + 1) * np.linalg.norm(affine[:3, axis]) >= VIEW_OF_BOTH:
        return SIDES
    middle = float(affine[0] @ np.array([*(last / 2), 1.0]))
    side = only_side(str(entry.attributes.get("ImageLaterality", "")), middle)
    return (side,) if side else ()
