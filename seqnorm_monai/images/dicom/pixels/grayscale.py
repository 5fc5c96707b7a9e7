"""The grayscale pipeline of PS3.3 section C.11 as functions on arrays: modality LUT, VOI LUT, polarity, padding.

Values are float64 here: it holds every stored integer of up to 32 bits, so that reflecting an image is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Transform = Callable[[Values], Values]


@dataclass(frozen=True)
class LookupTable:
    """A LUT of PS3.3 sections C.11.1.1 and C.11.2.1.1: ``entries[x - first]``, clipped at both ends.

    The output range is that of `bits` (third value of LUT Descriptor), whatever the entries reach.
    """

    first: int
    entries: Values
    bits: int

    def __call__(self, values: Values) -> Values:
        # The output of a rescale need not be an integer: the nearest entry is taken.
        index = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1).astype(np.intp)
        return self.entries[index]

    @property
    def high(self) -> float:
        """The largest value of the output range; the smallest is 0."""
        return float(2**self.bits - 1)


@dataclass(frozen=True)
class Rescale:
    """``slope * x + intercept`` (PS3.3 section C.11.1)."""

    slope: float = 1.0
    intercept: float = 0.0

    def __call__(self, values: Values) -> Values:
        return values * self.slope + self.intercept


@dataclass(frozen=True)
class Window:
    """A window of PS3.3 section C.11.2.1.2 and C.11.2.1.3 with the output range [0, 1].

    `function` is LINEAR (needs width >= 1), LINEAR_EXACT or SIGMOID (both need width > 0).
    """

    center: float
    width: float
    function: str = "LINEAR"

    def __call__(self, values: Values) -> Values:
        if self.function == "SIGMOID":
            # exp overflows to inf far below the window, where 0 is the right limit.
            with np.errstate(over="ignore"):
                return 1 / (1 + np.exp(-4 * (values - self.center) / self.width))
        center, width = self.center, self.width
        if self.function == "LINEAR":
            center, width = center - 0.5, width - 1
        if width == 0:
            return (values > center).astype(np.float64)
        return np.clip((values - center) / width + 0.5, 0, 1)


def modality_values(
    stored: Values, stored_range: tuple[int, int], modality: LookupTable | Rescale, *, invert: bool
) -> Values:
    """Modality values of the image in the polarity where the largest is shown white.

    `invert` reflects over the possible range, not over that of this image: before a rescale x becomes
    low + high - x (equal to reflecting its output over the rescaled range, but exact), after a LUT y becomes
    2^bits - 1 - y. So a MONOCHROME1 image and its MONOCHROME2 twin give identical values.
    """
    if isinstance(modality, LookupTable):
        values = modality(stored)
        return modality.high - values if invert else values
    return modality(sum(stored_range) - stored if invert else stored)


def presentation_values(
    stored: Values,
    stored_range: tuple[int, int],
    modality: LookupTable | Rescale,
    voi: LookupTable | Window | None,
    *,
    invert: bool,
) -> Values:
    """Values in [0, 1] after modality LUT, VOI LUT and polarity.

    The VOI is defined on values as they were stored, so `invert` comes last: 1 - y. Without a VOI in the file the
    possible range of modality values is mapped to [0, 1], which is the identity VOI of section C.11.2.1.
    """
    values = modality(stored)
    if isinstance(voi, LookupTable):
        output = voi(values) / voi.high
    elif isinstance(voi, Window):
        output = voi(values)
    else:
        low, high = modality_range(stored_range, modality)
        output = (values - low) / (high - low)
    return 1 - output if invert else output


def modality_range(stored_range: tuple[int, int], modality: LookupTable | Rescale) -> tuple[float, float]:
    """The smallest and the largest modality value that the file could hold."""
    if isinstance(modality, LookupTable):
        return 0.0, modality.high
    ends = [end * modality.slope + modality.intercept for end in stored_range]
    return min(ends), max(ends)


def padding_mask(stored: Values, limits: tuple[int, int]) -> Mask:
    """Pixels that are padding: both limits belong to it, in either order (PS3.3 section C.7.5.1.1.2)."""
    return (stored >= min(limits)) & (stored <= max(limits))


def fill_padding(values: Values, padding: Mask) -> Values:
    """Give padded pixels the smallest value of all others, as the darkest of the image after polarity.

    At least one pixel must not be padding.
    """
    return np.where(padding, values[~padding].min(), values)
