"""A NIfTI file as its volumes: 3D is one, 4D one for each phase."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from seqnorm_monai.images.image_array import MODALITY_VALUES, ImageArray, ReadOptions
from seqnorm_monai.images.nifti.byte_ranges import bytes_behind, read_ranges
from seqnorm_monai.images.nifti.errors import NiftiReadError
from seqnorm_monai.images.nifti.header import Layout, read_layout
from seqnorm_monai.images.nifti.orientation import Orientation, read_orientation
from seqnorm_monai.images.nifti.voxels import decode_voxels


@dataclass(frozen=True)
class NiftiVolume:
    """One phase of one file, not yet read.

    `shape` (x, y, z) voxels of `channels` (1; 3 RGB; 4 RGBA), `affine` (4, 4) voxel -> RAS mm, `spacing` in mm along
    the axes. `phase_index` from 0 of `num_phases`; `phase_time` in seconds where the fourth axis is one of time.
    `warnings` say what is odd about the header.
    """

    path: Path
    shape: tuple[int, int, int]
    channels: int
    affine: npt.NDArray[np.float64]
    spacing: tuple[float, float, float]
    orientation_source: str
    phase_index: int
    num_phases: int
    phase_label: str
    phase_time: float | None
    warnings: tuple[str, ...]
    layout: Layout

    @property
    def kind(self) -> str:
        """ "image" (one slice) or "volume"."""
        return "image" if self.shape[2] == 1 else "volume"

    @property
    def files(self) -> tuple[Path, ...]:
        """The file, or header and voxels of a pair."""
        return (self.path,) if self.layout.voxels == self.path else (self.path, self.layout.voxels)

    def read(self, options: ReadOptions = MODALITY_VALUES) -> ImageArray:
        """`read_volumes` of this phase alone."""
        return read_volumes([self], options)


def read_nifti(path: str | os.PathLike[str]) -> list[NiftiVolume]:
    """The volumes of a ``.nii``, ``.nii.gz`` or ``.hdr`` with its ``.img``, by the header alone.

    NIfTI-1 and -2 in either byte order; 2D has one slice; 4D is one volume for each phase. Refused: Analyze 7.5 (its
    orientation, left or right, is not stated), more than 4 dimensions, complex and 128-bit numbers, bitmaps, headers
    that contradict themselves or ask for more than the file can hold. The affine: see `orientation`.

    Raises NiftiReadError.
    """
    path = Path(path)
    layout = read_layout(path)
    # The header's numbers may be anything: their arithmetic is checked, not reported.
    with np.errstate(all="ignore"):
        orientation = read_orientation(layout)
    return [_volume(layout, orientation, index) for index in range(layout.phases)]


def read_volumes(volumes: Sequence[NiftiVolume], options: ReadOptions = MODALITY_VALUES) -> ImageArray:
    """Read phases of one file: (phases * channels, x, y[, z]), float32, ``scl_slope * stored + scl_inter``.

    A single slice has no last axis. Scaled in float64 and rounded once; colour is not scaled (nifti1.h, "DATA
    SCALING"). NaN and infinity stay, the meta entry `num_non_finite` counts them. The affine is that of the volumes;
    meta data are the numbers of the header, not its texts, which may name a patient. NIfTI has neither padding nor
    windows: `options` change nothing.

    Raises NiftiReadError for what is cut off, damaged, or beyond float32.
    """
    first = volumes[0]
    layout = first.layout
    _check_memory(layout, len(volumes))
    end = layout.offset + first.num_phases * layout.phase_bytes
    pixels, num_non_finite = _decode(volumes, end)
    rest = bytes_behind(layout.voxels, end)
    return ImageArray(
        path=os.fspath(first.path),
        pixels=pixels[..., 0] if first.kind == "image" else pixels,
        affine=first.affine,
        has_geometry=first.orientation_source != "pixdim",
        meta={**_meta(volumes), "num_non_finite": num_non_finite, "bytes_after_voxels": rest > 0},
    )


def _decode(volumes: Sequence[NiftiVolume], end: int) -> tuple[npt.NDArray[np.float32], int]:
    """(phases * channels, x, y, z), and how many values are not finite, in one pass over the file."""
    layout = volumes[0].layout
    places = sorted(range(len(volumes)), key=lambda place: volumes[place].phase_index)
    starts = [layout.offset + volumes[place].phase_index * layout.phase_bytes for place in places]
    pixels, num_non_finite = np.empty(0, np.float32), 0
    contents = read_ranges(layout.voxels, starts, layout.phase_bytes, end)
    # contents first: the step that finds no more of them checks the rest of the file
    for content, place in zip(contents, places, strict=True):
        if not pixels.size:
            # only now: a header may claim what is not there
            pixels = np.empty((len(volumes), layout.channels, *layout.shape), np.float32)
        num_non_finite += decode_voxels(content, layout, pixels[place])
    return pixels.reshape(-1, *layout.shape), num_non_finite


def _check_memory(layout: Layout, phases: int) -> None:
    """Refuse what this machine cannot hold: a small gzip file may truly unpack to very much."""
    needed = layout.phase_bytes + 4 * math.prod(layout.shape) * layout.channels * phases
    if needed > _physical_memory():
        raise NiftiReadError(layout.path, f"its voxels need {needed >> 20} MiB, more than the memory of this machine")


def _physical_memory() -> float:
    """Bytes; infinite where the system does not tell, as Windows."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return math.inf


def _volume(layout: Layout, orientation: Orientation, index: int) -> NiftiVolume:
    lengths = np.linalg.norm(orientation.affine[:3, :3], axis=0)
    time = _time(layout, index)
    label = "" if layout.phases == 1 else f"volume {index + 1} of {layout.phases}"
    return NiftiVolume(
        path=layout.path,
        shape=layout.shape,
        channels=layout.channels,
        affine=orientation.affine,
        spacing=(float(lengths[0]), float(lengths[1]), float(lengths[2])),
        orientation_source=orientation.source,
        phase_index=index,
        num_phases=layout.phases,
        phase_label=label if time is None else f"{label}, {time:g} s",
        phase_time=time,
        warnings=orientation.warnings,
        layout=layout,
    )


def _time(layout: Layout, index: int) -> float | None:
    """Seconds of a phase: toffset + index * pixdim[4], where these are a time and the step is positive."""
    offset, step = float(layout.fields["toffset"]), float(layout.fields["pixdim"][4])
    if layout.phases == 1 or not layout.to_seconds or not (np.isfinite([offset, step]).all() and step > 0):
        return None
    return (offset + index * step) * layout.to_seconds


def _meta(volumes: Sequence[NiftiVolume]) -> dict[str, object]:
    volume = volumes[0]
    header = volume.layout.fields.as_byteswapped("<")
    # Texts of the header (descrip, db_name, aux_file ...) are free: names of patients have been found in them.
    numbers = {name: header[name] for name in header if header[name].dtype.kind not in "SV"}
    phase = {"phase_index": volume.phase_index, "phase_label": volume.phase_label} if len(volumes) == 1 else {}
    return {
        **numbers,
        "orientation_source": volume.orientation_source,
        "spacing": np.asarray(volume.spacing),
        **phase,
    }
