"""Files to read, written by nibabel."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.makers.nifti import AFFINE


@pytest.fixture
def make_nifti(tmp_path: Path) -> Callable[..., Path]:
    """Write an array; further arguments are fields of the header, set last and unchecked."""

    def make(
        stored: np.ndarray, affine: np.ndarray | None = AFFINE, *, name: str = "image.nii", kind: type | None = None,
        big_endian: bool = False, **fields: object,
    ) -> Path:  # fmt: skip
        kind = kind or (nibabel.Nifti1Pair if ".hdr" in name else nibabel.Nifti1Image)
        header = kind.header_class(endianness=">" if big_endian else "<")
        image = kind(stored, affine, header, dtype=stored.dtype)
        for field, value in fields.items():
            image.header[field] = value
        path = tmp_path / name
        nibabel.save(image, path)
        # saving sets these to "no scaling"
        opening = gzip.open if name.endswith(".gz") else open
        with opening(path, "rb") as file:
            data = bytearray(file.read())
        for field in ("scl_slope", "scl_inter"):
            if field in fields:
                position = image.header.template_dtype.fields[field][1]
                struct.pack_into(">f" if big_endian else "<f", data, position, fields[field])
        with opening(path, "wb") as file:
            file.write(data)
        return path

    return make
