"""MetaImage (.mha, .mhd) and NRRD (.nrrd, .nhdr) volumes, read by ITK."""

from __future__ import annotations

import bz2
import gzip
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqnorm_monai.images.errors import ImageReadError
from seqnorm_monai.images.image_array import LPS_TO_RAS, MODALITY_VALUES, ImageArray, ReadOptions
from seqnorm_monai.images.machine_errors import raise_machine_error

_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
_COMPONENTS = (1, 3, 4)
_INTEGERS = re.compile(r"(unsigned_)?(char|short|int|long|long_long)")
_FLOATS = ("float", "double")
# as much of a file as is searched for its header
_HEADER = 65_536
# where a header names the file of its voxels
_ELSEWHERE = {
    "MetaImage": re.compile(r"^ElementDataFile *= *(.*)$", re.M),
    "NRRD": re.compile(r"^data ?file: *(.*)$", re.M),
}
_ENCODING = re.compile(r"^encoding: *(\w+)", re.M)
# NRRD without it says how voxels lie to each other, and not in a patient
_SPACE = re.compile(r"^space: *\S", re.M)


class ItkReadError(ImageReadError):
    """A MetaImage or NRRD file that is refused."""


@dataclass(frozen=True)
class ItkVolume:
    """One file, not yet read: `shape` (x, y, z), `channels`, `affine` voxels to mm in RAS, `spacing` in mm.

    `has_geometry`: the header says where the voxels lie in a patient. `files`: the header, and the voxels of a pair.
    """

    path: Path
    format: str
    shape: tuple[int, int, int]
    channels: int
    affine: tuple[tuple[float, ...], ...]
    spacing: tuple[float, float, float]
    has_geometry: bool
    files: tuple[Path, ...]

    @property
    def kind(self) -> str:
        """ "image" (one slice) or "volume"."""
        return "image" if self.shape[2] == 1 else "volume"


def itk_format(path: str | os.PathLike[str]) -> str:
    """ "MetaImage" or "NRRD", by the name and the beginning of a file; "" for any other."""
    if not os.fspath(path).lower().endswith(_SUFFIXES):
        return ""
    text = _header(path)
    if text.startswith("NRRD0"):
        return "NRRD"
    return "MetaImage" if re.search(r"^NDims *=", text, re.M) else ""


def voxel_file_of(path: str | os.PathLike[str]) -> str | None:
    """The file of a header's voxels, if that is another one."""
    kind = itk_format(path)
    match = _ELSEWHERE[kind].search(_header(path)) if kind else None
    name = match[1].strip() if match else ""
    if not name or name.upper().startswith(("LOCAL", "LIST")) or "%" in name:
        return None
    return os.path.join(os.path.dirname(os.fspath(path)), name)


def read_itk_volume(path: Path) -> ItkVolume:
    """The header of a file. Raises ItkReadError for what is no grey or RGB(A) volume of two or three dimensions."""
    kind = itk_format(path)
    with _refusing(path, kind):
        # imported here: it takes a second
        import itk

        io = itk.ImageIOFactory.CreateImageIO(os.fspath(path), itk.CommonEnums.IOFileMode_ReadMode)
        if io is None:
            raise ItkReadError(path, f"a {kind} file whose header is damaged")
        io.SetFileName(os.fspath(path))
        io.ReadImageInformation()
        return _volume(path, kind, io)


def read_itk_array(volumes: Sequence[ItkVolume], options: ReadOptions = MODALITY_VALUES) -> ImageArray:
    """Read one file: (channels, x, y[, z]), float32. A single slice has no last axis.

    Texts of the header are not read. These formats have neither padding nor windows: `options` change nothing.

    Raises ItkReadError for what is cut off or damaged.
    """
    (volume,) = volumes
    with _refusing(volume.path, volume.format):
        import itk

        _check_packed(volume)
        kind = itk.F if volume.channels == 1 else itk.Vector[itk.F, volume.channels]
        voxels = itk.array_from_image(itk.imread(os.fspath(volume.path), kind))
    x, y, z = volume.shape
    pixels = np.moveaxis(voxels.reshape(z, y, x, volume.channels), (0, 1, 2, 3), (3, 2, 1, 0))
    return ImageArray(
        path=os.fspath(volume.path),
        pixels=np.ascontiguousarray(pixels[..., 0] if volume.kind == "image" else pixels),
        affine=np.array(volume.affine),
        has_geometry=volume.has_geometry,
        meta={"num_non_finite": int(np.count_nonzero(~np.isfinite(pixels)))},
    )


def _check_packed(volume: ItkVolume) -> None:
    """Unpack the voxels of a packed NRRD file to their end: ITK (5.4) takes what is there for the whole."""
    match = _ENCODING.search(_header(volume.path)) if volume.format == "NRRD" else None
    unpacker = {"gz": gzip.open, "gzip": gzip.open, "bz2": bz2.open, "bzip2": bz2.open}.get(match[1] if match else "")
    if unpacker is None:
        return
    with volume.files[-1].open("rb") as stream:
        if len(volume.files) == 1:
            stream.seek(len(_header(volume.path).encode("latin-1")) + 2)
        with unpacker(stream) as voxels:
            while voxels.read(1 << 22):
                pass


def _volume(path: Path, kind: str, io: Any) -> ItkVolume:  # noqa: ANN401
    dims = int(io.GetNumberOfDimensions())
    channels = int(io.GetNumberOfComponents())
    if dims not in (2, 3):
        raise ItkReadError(path, f"has {dims} dimensions, read are 2 and 3", "write each volume into a file")
    component = io.GetComponentTypeAsString(io.GetComponentType())
    if "complex" in io.GetPixelTypeAsString(io.GetPixelType()) or channels not in _COMPONENTS:
        raise ItkReadError(path, f"has voxels of {channels} numbers of the kind {component}")
    if not (_INTEGERS.fullmatch(component) or component in _FLOATS):
        raise ItkReadError(path, f"has voxels of the kind {component}")
    shape = [int(io.GetDimensions(axis)) for axis in range(dims)] + [1] * (3 - dims)
    spacing = [float(io.GetSpacing(axis)) for axis in range(dims)] + [1.0] * (3 - dims)
    matrix = np.eye(4)
    for axis in range(dims):
        matrix[:dims, axis] = np.array(io.GetDirection(axis)) * spacing[axis]
        matrix[axis, 3] = io.GetOrigin(axis)
    if min(shape) < 1 or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) == 0:
        raise ItkReadError(path, "has an axis without voxels or without length")
    elsewhere = voxel_file_of(path)
    return ItkVolume(
        path=path,
        format=kind,
        shape=(shape[0], shape[1], shape[2]),
        channels=channels,
        affine=tuple(map(tuple, (LPS_TO_RAS @ matrix).tolist())),
        spacing=(spacing[0], spacing[1], spacing[2]),
        has_geometry=dims == 3 and (kind == "MetaImage" or bool(_SPACE.search(_header(path)))),
        files=(path,) if elsewhere is None else (path, Path(elsewhere)),
    )


@contextmanager
def _refusing(path: Path, kind: str) -> Iterator[None]:
    """What ITK raises becomes an ItkReadError; its texts may quote the header, and are left out."""
    try:
        with warnings.catch_warnings():
            # its types warn when they are made, and an exception at that point would end the process
            warnings.simplefilter("ignore")
            yield
    except ImportError:
        raise
    except ItkReadError:
        raise
    except Exception as error:
        raise_machine_error(error)
        raise ItkReadError(path, f"a {kind} file that is cut off or damaged") from error


def _header(path: str | os.PathLike[str]) -> str:
    """The text before the voxels; "" for a file that cannot be opened."""
    try:
        with open(path, "rb") as stream:
            start = stream.read(_HEADER)
    except OSError as error:
        raise_machine_error(error)
        return ""
    text = start.replace(b"\r\n", b"\n").decode("latin-1")
    # a blank line ends a header of NRRD, the data file's line that of MetaImage
    end = text.find("\n\n") if text.startswith("NRRD0") else _end_of_meta(text)
    return text if end < 0 else text[:end]


def _end_of_meta(text: str) -> int:
    match = _ELSEWHERE["MetaImage"].search(text)
    return -1 if match is None else match.end()
