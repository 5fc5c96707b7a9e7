"""One breast out of a volume of both: left and right by the patient, whatever the order of the array."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import BorderPad, Flip, MapTransform, Orientation, SpatialCrop, Transform
from monai.utils import TransformBackends

from seqnorm_monai.images.errors import ImageReadError

SIDES = ("left", "right")
# An image that is narrower than this (mm, from right to left), or whose body is, shows one breast. Our reading:
# examinations of both take a field of view of 280 mm and more, sagittal ones of one breast 200 mm and less.
VIEW_OF_BOTH, _BODY_OF_BOTH = 240.0, 200.0
# A single breast whose middle lies nearer to the middle of the scanner (mm) may be either.
_NEAR_THE_MIDDLE = 20.0
# share of the largest count of body voxels in a plane from which a plane counts as body
_EDGE = 0.1
_BINS = 256

UNKNOWN_SIDE = "shows one breast, and nothing tells its side"

Mask = npt.NDArray[np.bool_]


class BreastSideError(ImageReadError):
    """A side that an image does not show, or that cannot be told."""


def only_side(laterality: str, x: float) -> str:
    """The side of an image of one breast, "" where it is not told: ImageLaterality, else its middle's x (mm, RAS)."""
    stated = {"L": "left", "R": "right"}.get(laterality, "")
    return stated or ("" if abs(x) < _NEAR_THE_MIDDLE else "right" if x > 0 else "left")


def body_mask(volume: npt.NDArray[np.float32]) -> Mask:
    """The voxels that are no air: above the threshold of Otsu (IEEE Trans. SMC 1979;9:62-66) of the values.

    The square roots of the values are taken: suppressed fat is nearer to air than to gland, and a coil makes what is
    near to it several times as bright. They are cut at their 99th percentile before. `volume`: (x, y, z).
    """
    values = np.sqrt(np.maximum(np.minimum(volume, np.percentile(volume, 99)) - float(volume.min()), 0))
    counts, edges = np.histogram(values, bins=_BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])[::-1]
    mean_below = np.cumsum(counts * centres) / np.maximum(below, 1)
    mean_above = (np.cumsum((counts * centres)[::-1]) / np.maximum(np.cumsum(counts[::-1]), 1))[::-1]
    between = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return values > edges[1:-1][int(between.argmax())]


def extent(mask: Mask, axis: int) -> tuple[int, int]:
    """First and last plane along an axis in which the body is more than a tenth of its largest plane."""
    counts = mask.sum(axis=tuple(other for other in range(mask.ndim) if other != axis))
    planes = np.flatnonzero(counts >= max(1.0, _EDGE * float(counts.max(initial=0))))
    return (int(planes[0]), int(planes[-1])) if len(planes) else (0, mask.shape[axis] - 1)


def midline(mask: Mask) -> float:
    """Where along x the middle of the body lies: the median over the slices (z) that show most of it."""
    sizes = mask.sum(axis=(0, 1))
    shown = np.flatnonzero(sizes >= 0.5 * sizes.max(initial=0)) if sizes.any() else np.arange(mask.shape[2])
    middles = [sum(extent(mask[:, :, [z]], 0)) / 2 for z in shown]
    return float(np.median(middles))


class CropBreast(Transform):
    """The breast of one side -> `MetaTensor` (channels, *size), its axes towards Right, Anterior, Superior (RAS).

    The image may have any orientation; it is put into the nearest RAS order before sides are told apart, so resample it
    before, e.g. by MONAI's ``Spacing``. The side is that of the patient. The middle between the sides is that of the
    body in the first channel, not of the array. In front the crop ends at the body, so that its back is cut; along z it
    lies around the middle of the body. What lies beyond the array is 0.

    An image of one breast (narrower than 240 mm, or with a body of less than 200 mm) gives that breast: its side is
    ImageLaterality, else the side of the scanner's middle on which it lies.

    Args:
        size: voxels along x, y and z, for both sides; one number serves all three.
        mirror_right: mirror the right breast, so that all look like left ones.
        drop_first: the first channel tells the body (e.g. ``pre``), and is left out of the result.

    Raises `BreastSideError` if the image does not show that side, or does not tell which it shows.
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012

    def __init__(self, size: int | Sequence[int], *, mirror_right: bool = False, drop_first: bool = False) -> None:
        numbers = [size] * 3 if isinstance(size, int) else list(size)
        if len(numbers) != 3 or any(int(number) < 1 for number in numbers):
            raise ValueError(f"argument size must be one or three numbers of voxels; got {size!r}")
        self.size = tuple(map(int, numbers))
        self.mirror_right = mirror_right
        self.drop_first = drop_first
        self._to_ras = Orientation(axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))

    def __call__(self, image: MetaTensor, side: str) -> MetaTensor:
        if side not in SIDES:
            raise ValueError(f"argument side must be left or right; got {side!r}")
        upright = self._to_ras(image)
        mask = body_mask(np.asarray(upright[0], dtype=np.float32))
        if self.drop_first and len(upright) < 2:
            raise ValueError("argument drop_first: the image has one channel, so that nothing would be left")
        found = self._crop(upright[1:] if self.drop_first else upright, mask, side)
        return Flip(spatial_axis=0)(found) if self.mirror_right and side == "right" else found

    def _crop(self, image: MetaTensor, mask: Mask, side: str) -> MetaTensor:
        first, last = extent(mask, 0)
        spacing = float(image.pixdim[0])
        if image.shape[1] * spacing < VIEW_OF_BOTH or (last - first + 1) * spacing < _BODY_OF_BOTH:
            self._check_only_side(image, (first + last) / 2, side)
            own, middle_x = mask, (first + last + 1) / 2
            start_x = round(middle_x - self.size[0] / 2)
        else:
            # x grows towards the right of the patient
            border = round(midline(mask) + 0.5)
            own = mask[:border] if side == "left" else mask[border:]
            start_x = border - self.size[0] if side == "left" else border
        front = extent(own, 1)[1] + 1
        middle_z = sum(extent(own, 2)) / 2 + 0.5
        starts = (start_x, front - self.size[1], round(middle_z - self.size[2] / 2))
        return self._cut(image, starts)

    def _check_only_side(self, image: MetaTensor, middle: float, side: str) -> None:
        centre = (*[middle], *[(size - 1) / 2 for size in image.shape[2:]], 1.0)
        x = float(np.asarray(image.affine, dtype=np.float64)[0] @ np.array(centre))
        stated = only_side(str(image.meta.get("ImageLaterality", "")), x)
        if not stated:
            raise BreastSideError(_path(image), UNKNOWN_SIDE)
        if stated != side:
            raise BreastSideError(_path(image), f"shows the {stated} breast alone, the {side} one was asked for")

    def _cut(self, image: MetaTensor, starts: Sequence[int]) -> MetaTensor:
        """`size` voxels from `starts` on, 0 beyond the array."""
        shape = image.shape[1:]
        before = [max(0, -start) for start in starts]
        after = [max(0, start + size - length) for start, size, length in zip(starts, self.size, shape, strict=True)]
        margins = [number for pair in zip(before, after, strict=True) for number in pair]
        roomy = BorderPad(margins, mode="constant", value=0.0)(image)
        corner = [start + more for start, more in zip(starts, before, strict=True)]
        ends = [start + size for start, size in zip(corner, self.size, strict=True)]
        return SpatialCrop(roi_start=corner, roi_end=ends)(roomy)


class CropBreastd(MapTransform):
    """`CropBreast` for the entries `keys` of a dictionary, whose entry `side_key` is "left" or "right".

    Raises KeyError that names a missing key, and what `CropBreast` raises.
    """

    backend = CropBreast.backend

    def __init__(
        self,
        keys: KeysCollection,
        size: int | Sequence[int],
        *,
        side_key: str = "side",
        mirror_right: bool = False,
        drop_first: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.side_key = side_key
        self.crop = CropBreast(size, mirror_right=mirror_right, drop_first=drop_first)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.crop(result[key], result[self.side_key])
        return result


def _path(image: MetaTensor) -> str:
    return str(image.meta.get("filename_or_obj", "an image"))
