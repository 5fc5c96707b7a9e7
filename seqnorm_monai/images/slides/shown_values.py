"""What the samples of a TIFF page mean: palettes and inverted ranges to the values that are shown."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tifffile import TiffPage

# PhotometricInterpretation (TIFF 6.0, section 8 and part 2)
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
# Compressions that know nothing of colours: none, LZW, both names of deflate, PackBits. JPEG gives RGB of YCbCr.
_WITHOUT_COLOURS = (1, 5, 8, 32946, 32773)
_GDAL_NODATA = 42113


@dataclass(frozen=True)
class ShownValues:
    """From decoded samples to values: `table` (entries, 3) of a palette, or `top` - sample where `top` is given."""

    dtype: np.dtype
    table: npt.NDArray[np.uint8] | None = None
    top: int | None = None

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels that a palette adds."""
        return () if self.table is None else (3,)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        if self.table is not None:
            return self.table[np.minimum(samples, len(self.table) - 1)]
        return samples if self.top is None else (self.top - samples).astype(self.dtype)


def shown_values(path: str | os.PathLike[str], page: TiffPage) -> ShownValues:
    """How to show the samples of a page. Raises ValueError for colours that are not read, by their name."""
    photometric, dtype = int(page.photometric), np.dtype(page.dtype)
    if photometric == _PALETTE:
        if page.colormap is None or dtype.kind != "u":
            raise ValueError(f"{path} has palette colours without a palette. Convert it to RGB")
        # entries have 16 bits, of which old writers used the lower eight only
        entries = np.asarray(page.colormap).T
        return ShownValues(np.dtype(np.uint8), (entries >> (8 if entries.max() > 255 else 0)).astype(np.uint8))
    if photometric == _MIN_IS_WHITE:
        if dtype.kind not in "ub":
            raise ValueError(f"{path} shows 0 as white, but its samples are signed or no integers: no range to reflect")
        return ShownValues(dtype, top=2 ** int(page.bitspersample) - 1)
    plain_ycbcr = photometric == _YCBCR and int(page.compression) in _WITHOUT_COLOURS
    if photometric not in (_MIN_IS_BLACK, _RGB, _YCBCR) or plain_ycbcr:
        name = getattr(page.photometric, "name", str(photometric))
        raise ValueError(f"{path} has the colours {name}, which are not read. Convert it to RGB")
    return ShownValues(dtype)


def stated_background(page: TiffPage) -> float | None:
    """What the file says of pixels without data, by the tag of GDAL; None where it says nothing."""
    return float(page.nodata) if _GDAL_NODATA in page.tags else None
