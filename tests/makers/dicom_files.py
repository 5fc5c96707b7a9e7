"""Pixel values for test files, and the check of a refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqnorm_monai.images.errors import ImageReadError
from tests.makers.reading import read_radiograph

# JPEG 2000 encoders need 32 in both directions.
ROWS, COLUMNS = 43, 37


def ramp(bits: int, *, signed: bool = False) -> np.ndarray:
    """43 x 37 values that reach both ends of what `bits` can hold, no two neighbours alike."""
    span = 2**bits
    values = (np.arange(ROWS * COLUMNS, dtype=np.int64) * 7919) % span
    values[[0, 17]] = 0, span - 1
    return (values - (span // 2 if signed else 0)).reshape(ROWS, COLUMNS)


def native_bytes(stored: np.ndarray, bits_allocated: int, *, big_endian: bool = False) -> bytes:
    """The cells as they are in a file; negative values in two's complement."""
    cells = np.asarray(stored, dtype=np.int64) & (2**bits_allocated - 1)
    data = cells.astype(f"{'>' if big_endian else '<'}u{bits_allocated // 8}").tobytes()
    return data + b"\0" * (len(data) % 2)


def refusal(path: Path | str, **arguments: Any) -> ImageReadError:  # noqa: ANN401
    """The error with which `path` is refused; its text quotes nothing that identifies the patient of `make_dicom`."""
    with pytest.raises(ImageReadError) as caught:
        read_radiograph(path, **arguments)
    assert caught.value.path == Path(path)
    assert str(caught.value).startswith(f"{path}: {caught.value.reason}")
    for secret in ("Secret", "SECRETID", "19010203"):
        assert secret not in caught.value.reason + caught.value.advice
    return caught.value
