"""One attribute of many planes as integer codes: equal up to the noise of written numbers, rising with the value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from seqnorm_monai.images.dicom.phase_attributes import EXACT, Value

Codes = npt.NDArray[np.int64]

# Numbers nearer than this are one: written with three decimals, or kept in single precision.
_NOISE, _RELATIVE_NOISE = 1e-3, 1e-5
# Above this many different vectors each counts as it is written: no series has so many directions.
_MAX_VECTORS = 600


@dataclass(frozen=True)
class Column:
    """`values[codes[i]]` is the value of plane i, None (always first) where it has none."""

    name: str
    codes: Codes
    values: tuple[Value, ...]

    @cached_property
    def known(self) -> npt.NDArray[np.bool_]:
        """Which planes have the attribute."""
        return np.array([value is not None for value in self.values])[self.codes]


def column(name: str, found: Sequence[Value]) -> Column:
    """Order the values (absent, numbers, vectors, texts), joining numbers that differ by noise."""
    distinct = set(found)
    numbers = sorted(value for value in distinct if isinstance(value, float | int))
    vectors = sorted(value for value in distinct if isinstance(value, tuple))
    texts = sorted(value for value in distinct if isinstance(value, str))
    places: dict[Value, int] = {}
    values: list[Value] = []
    for group in ([None] if None in distinct else [], numbers, vectors, texts):
        first = len(values)
        for value in group:
            near = _near(values, first, value, len(group))
            if near is None:
                values.append(value)
            places[value] = len(values) - 1 if near is None else near
    return Column(name, np.array([places[value] for value in found], dtype=np.int64), tuple(values))


def _near(known: Sequence[Value], first: int, value: Value, count: int) -> int | None:
    """Where in `known`, from `first` on, a value is that equals `value` up to noise; numbers come in rising order."""
    if isinstance(value, float | int) and len(known) > first:
        last = known[-1]
        return len(known) - 1 if value - last <= max(_NOISE, _RELATIVE_NOISE * abs(value)) else None
    if isinstance(value, tuple) and count <= _MAX_VECTORS:
        for place in range(first, len(known)):
            other = known[place]
            if len(other) == len(value) and all(abs(a - b) <= _NOISE for a, b in zip(other, value, strict=True)):
                return place
    return None


def joined(codes: Sequence[Codes], count: int) -> Codes:
    """One code for each combination, in the order of the combinations; without columns all planes are alike."""
    if not codes:
        return np.zeros(count, dtype=np.int64)
    result = np.unique(codes[0], return_inverse=True)[1].reshape(-1)
    for other in codes[1:]:
        result = np.unique(result * (int(other.max()) + 1) + other, return_inverse=True)[1].reshape(-1)
    return result


def members(codes: Codes) -> list[Codes]:
    """The places of each code, codes and places rising."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def partition(codes: Codes) -> bytes:
    """The same for two columns that divide the planes in the same way, whatever the values."""
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    return first[inverse.reshape(-1)].tobytes()


def title(names: Sequence[str], values: Sequence[Value]) -> str:
    """E.g. "temporal position 2, echo time 4.6"."""

    def text(value: Value) -> str:
        if value is None:
            return "none"
        parts = value if isinstance(value, tuple) else (value,)
        return " ".join(part if isinstance(part, str) else f"{part:g}" for part in parts)

    def called(name: str) -> str:
        return EXACT[name][0] if name in EXACT else "time order"

    return ", ".join(f"{called(name)} {text(value)}" for name, value in zip(names, values, strict=True))
