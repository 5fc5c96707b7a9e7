"""What a NIfTI header says of its voxels, checked before any of them is read.

Field names are those of nifti1.h and nifti2.h; nibabel knows their layout and byte order, the rules are here, because
its checks log, repair and warn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqnorm_monai.images.nifti.byte_ranges import check_size, has_magic, read_start, voxel_file
from seqnorm_monai.images.nifti.errors import NiftiReadError

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

# datatype -> numpy type and channels
_TYPES = {
    2: ("u1", 1),
    4: ("i2", 1),
    8: ("i4", 1),
    16: ("f4", 1),
    64: ("f8", 1),
    128: ("u1", 3),
    256: ("i1", 1),
    512: ("u2", 1),
    768: ("u4", 1),
    1024: ("i8", 1),
    1280: ("u8", 1),
    2304: ("u1", 4),
}
_REFUSED_TYPES = {0: "unknown", 1: "one bit", 32: "complex", 1536: "128-bit float", 1792: "complex", 2048: "complex"}
# intent_code -> colours along the fifth axis: NIFTI_INTENT_RGB_VECTOR, NIFTI_INTENT_RGBA_VECTOR
_COLOUR_VECTORS = {2003: 3, 2004: 4}
# xyzt_units: millimetres and seconds per unit; 0 says nothing: lengths are taken for mm, times are not known
_SPACE_UNITS = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_TIME_UNITS = {8: 1.0, 16: 0.001, 24: 0.000001}


@dataclass(frozen=True)
class Layout:
    """Where the voxels of a file are and what they mean.

    `shape` (x, y, z) and `phases` volumes of it, x fastest; each voxel `channels` numbers of `dtype`, in `voxels` from
    byte `offset`, next to each other or, with `channels_last`, volume after volume. Values are
    ``slope * stored + intercept``, or as stored with `slope` None. Spatial fields of `fields` are in units of `to_mm`,
    times in units of `to_seconds` (0: the fourth axis is no time).
    """

    path: Path
    voxels: Path
    shape: tuple[int, int, int]
    phases: int
    dtype: np.dtype[Any]
    channels: int
    channels_last: bool
    offset: int
    slope: float | None
    intercept: float
    to_mm: float
    to_seconds: float
    fields: Nifti1Header

    @property
    def phase_bytes(self) -> int:
        return math.prod(self.shape) * self.channels * self.dtype.itemsize


def read_layout(path: Path) -> Layout:
    """Read and check a header, and that the file can hold what it says. Raises NiftiReadError."""
    header = _header(path)
    shape, phases, vector = _dimensions(path, header)
    dtype, channels = _voxel_type(path, header)
    if vector > 1 and channels > 1:
        raise NiftiReadError(path, "colour along an axis of colours")
    channels *= vector
    voxels = _voxels(path, header)
    slope, intercept = _scaling(path, header) if channels == 1 or vector > 1 else (None, 0.0)
    units = int(header["xyzt_units"])
    space, time = units & 7, units & 56
    if space not in _SPACE_UNITS:
        raise NiftiReadError(path, "xyzt_units names no unit of length")
    layout = Layout(
        path=path,
        voxels=voxels,
        shape=shape,
        phases=phases,
        dtype=dtype,
        channels=channels,
        channels_last=vector > 1,
        offset=_offset(path, header, single=voxels == path),
        slope=slope,
        intercept=intercept,
        to_mm=_SPACE_UNITS[space],
        to_seconds=_TIME_UNITS.get(time, 0.0),
        fields=header,
    )
    check_size(voxels, layout.offset + layout.phases * layout.phase_bytes)
    return layout


def _header(path: Path) -> Nifti1Header:
    # imported here: most runs meet no NIfTI file, and it takes a third of a second
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    start = read_start(path)
    if not start:
        raise NiftiReadError(path, "an empty file")
    if not has_magic(start):
        if start[:4] in (b"\x5c\1\0\0", b"\0\0\1\x5c"):
            raise NiftiReadError(
                path, "Analyze 7.5: its orientation is not stated", "convert it to NIfTI, by hand about left and right"
            )
        raise NiftiReadError(path, "not a NIfTI file: no magic number")
    kind = Nifti2Header if start[4:6] in (b"n+", b"ni") else Nifti1Header
    if len(start) < kind.template_dtype.itemsize:
        raise NiftiReadError(path, "cut off within its header", "copy it anew")
    size = kind.template_dtype.itemsize
    for endianness, order in (("<", "little"), (">", "big")):
        if int.from_bytes(start[:4], order) == size:
            return kind(start[:size], endianness, check=False)
    raise NiftiReadError(path, "sizeof_hdr is not the size of a NIfTI header")


def _dimensions(path: Path, header: Nifti1Header) -> tuple[tuple[int, int, int], int, int]:
    """(x, y, z), how many volumes, and how many channels the fifth axis holds; axes of one voxel count as absent."""
    dim = [int(value) for value in header["dim"]]
    if not 1 <= dim[0] <= 7:
        raise NiftiReadError(path, "dim: not 1 to 7 dimensions")
    # the NIfTI library, and ITK with it, takes 0 for 1 behind the second axis; there are bytes for one voxel, or none
    used = [size or 1 if axis > 1 else size for axis, size in enumerate(dim[1 : dim[0] + 1])]
    if min(used) < 1:
        raise NiftiReadError(path, "dim: an axis without voxels")
    used += [1] * (7 - len(used))
    vector = used[4] if used[3] == 1 and used[4] == _COLOUR_VECTORS.get(int(header["intent_code"])) else 1
    if max(used[4:]) > vector:
        raise NiftiReadError(path, "more than 4 dimensions (a vector, tensor or statistic at each voxel)", "split it")
    return (used[0], used[1], used[2]), used[3], vector


def _voxel_type(path: Path, header: Nifti1Header) -> tuple[np.dtype[Any], int]:
    code = int(header["datatype"])
    if code not in _TYPES:
        raise NiftiReadError(path, f"datatype {code} ({_REFUSED_TYPES.get(code, 'not in the standard')})")
    name, channels = _TYPES[code]
    dtype = np.dtype(name).newbyteorder(header.endianness)
    bits = int(header["bitpix"])
    if bits != 8 * dtype.itemsize * channels:
        raise NiftiReadError(path, f"bitpix {bits} contradicts datatype {code}")
    return dtype, channels


def _voxels(path: Path, header: Nifti1Header) -> Path:
    """The file with the voxels: this one (magic "n+"), or the one beside the header ("ni")."""
    if bytes(header["magic"].tobytes()).startswith(b"n+"):
        return path
    voxels = voxel_file(path)
    if voxels is None:
        raise NiftiReadError(path, "the .img file that belongs to this header is not beside it")
    return voxels


def _offset(path: Path, header: Nifti1Header, *, single: bool) -> int:
    offset = float(header["vox_offset"])
    smallest = header.template_dtype.itemsize + 4 if single else 0
    # Writers leave 0 for "right behind the header".
    if single and offset == 0:
        return smallest
    if not math.isfinite(offset) or offset != int(offset) or not smallest <= offset < 2**62:
        raise NiftiReadError(path, "vox_offset is no position of voxels")
    return int(offset)


def _scaling(path: Path, header: Nifti1Header) -> tuple[float | None, float]:
    """scl_slope and scl_inter; slope 0, or both unset (NaN), means values as stored."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope):
        return None, 0.0
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise NiftiReadError(path, "scl_slope or scl_inter is not a finite number")
    return (None, 0.0) if (slope, intercept) == (1.0, 0.0) else (slope, intercept)
