"""Damage to files, drawn from a generator: bytes, elements, lengths, pieces."""

from __future__ import annotations

import io
from collections.abc import Callable

import nibabel
import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement

from seqnorm_monai.images.dicom.silence import pydicom_silenced

Random = np.random.Generator
Mutation = Callable[[bytearray, Random], bytearray]

# Sizes, counts and offsets at which arithmetic goes wrong.
_EXTREMES = (
    *(0, 1, 2, 3, 7, 127, 128, 255, 256, 32767, 32768, 65534, 65535, 65536),
    *(2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1),
)
_VALUES = (b"\0", b"\xff", b"9", b"-", b" ", b"1.5\\", b"1e999\\", b"nan\\", b"\\\\", b"1.2.840.10008.1.2.4.50")


def flip_anywhere(data: bytearray, random: Random) -> bytearray:
    for _ in range(random.integers(1, 9)):
        data[random.integers(len(data))] = random.integers(256)
    return data


def flip_in_front(data: bytearray, random: Random) -> bytearray:
    """Some bytes of the first kilobytes, where headers are."""
    end = min(len(data), int(random.choice([400, 1000, 3000])))
    for _ in range(random.integers(1, 5)):
        data[random.integers(end)] = random.integers(256)
    return data


def flip_one_bit(data: bytearray, random: Random) -> bytearray:
    data[random.integers(len(data))] ^= 1 << random.integers(8)
    return data


def cut_end(data: bytearray, random: Random) -> bytearray:
    return data[: random.integers(len(data))]


def cut_piece(data: bytearray, random: Random) -> bytearray:
    start = random.integers(len(data))
    return data[:start] + data[start + random.integers(1, 300) :]


def insert_piece(data: bytearray, random: Random) -> bytearray:
    start = random.integers(len(data))
    return data[:start] + random.bytes(int(random.integers(1, 300))) + data[start:]


def repeat_piece(data: bytearray, random: Random) -> bytearray:
    start, length = random.integers(len(data)), random.integers(1, 3000)
    return data[: start + length] + data[start : start + length] + data[start + length :]


def wipe_piece(data: bytearray, random: Random) -> bytearray:
    start, length = int(random.integers(len(data))), int(random.integers(1, 200))
    data[start : start + length] = bytes(len(data[start : start + length]))
    return data


def element_value(data: bytearray, random: Random) -> bytearray:
    """Another value of the same length in one element of the data set."""
    element = _element(data, random)
    if element is None or not 0 < element.length < len(data):
        return flip_in_front(data, random)
    kind = random.integers(3)
    if kind == 0:
        value = random.bytes(element.length)
    elif kind == 1:
        value = _VALUES[random.integers(len(_VALUES))] * element.length
    else:
        value = _extreme(random) * element.length
    data[element.value_tell : element.value_tell + element.length] = value[: element.length]
    return data


def element_length(data: bytearray, random: Random) -> bytearray:
    """Another length in one element of the data set."""
    element = _element(data, random)
    if element is None:
        return flip_in_front(data, random)
    size = 2 if data[element.value_tell - 4 : element.value_tell - 2].isalpha() else 4
    data[element.value_tell - size : element.value_tell] = _extreme(random)[:size]
    return data


def nifti_field(data: bytearray, random: Random) -> bytearray:
    """Extreme values in the fields of a NIfTI-1 header."""
    if len(data) < 348:
        return data
    header = np.frombuffer(data[:348], nibabel.Nifti1Header.template_dtype).copy()
    for _ in range(random.integers(1, 4)):
        field = header[str(random.choice(header.dtype.names))].reshape(-1)
        position = random.integers(field.size)
        with np.errstate(all="ignore"):
            if field.dtype.kind == "f":
                numbers = [0, -1, 0.5, 1e30, -1e30, np.nan, np.inf, 352, 353, 1e-30, random.normal()]
                field[position] = random.choice(numbers)
            elif field.dtype.kind == "S":
                field[position] = random.bytes(field.itemsize)
            else:
                number = np.array(int(random.choice([*_EXTREMES, *range(-2, 20)])), np.int64)
                field[position] = number.astype(field.dtype)
        # views of records: what was changed is written back
    data[:348] = header.tobytes()
    return data


GENERAL: tuple[Mutation, ...] = (
    flip_anywhere,
    flip_in_front,
    flip_one_bit,
    cut_end,
    cut_piece,
    insert_piece,
    repeat_piece,
    wipe_piece,
)
DICOM: tuple[Mutation, ...] = (*GENERAL, element_value, element_value, element_value, element_length, element_length)
NIFTI: tuple[Mutation, ...] = (*GENERAL, nifti_field, nifti_field, nifti_field, nifti_field)


def mutated(content: bytes, mutations: tuple[Mutation, ...], random: Random) -> tuple[bytes, str]:
    """One file, damaged once or twice, and the names of the mutations."""
    data, names = bytearray(content), []
    for _ in range(1 + (random.random() < 0.2)):
        mutation = mutations[random.integers(len(mutations))]
        names.append(mutation.__name__)
        if data:
            data = mutation(data, random)
    return bytes(data), "+".join(names)


def _extreme(random: Random) -> bytes:
    return int(_EXTREMES[random.integers(len(_EXTREMES))]).to_bytes(4, "little")


def _element(data: bytearray, random: Random) -> RawDataElement | None:
    try:
        with pydicom_silenced():
            dataset = pydicom.dcmread(io.BytesIO(data), force=True)
            items = [dataset.get_item(tag) for tag in dataset]
    # a second mutation of what the first has damaged
    except Exception:
        return None
    raw = [item for item in items if isinstance(item, RawDataElement) and item.value_tell > 8]
    return raw[random.integers(len(raw))] if raw else None
