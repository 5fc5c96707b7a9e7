"""One phase of one series: what it is, before and after its pixels are decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from monai.data import MetaTensor
from monai.utils import MetaKeys, SpaceKeys
from monai.utils.misc import ImageMetaKey

from seqnorm_monai.images.dicom.load_planes import load_planes
from seqnorm_monai.images.dicom.plane import Plane

Affine = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Volume:
    """One phase of one series, not yet decoded.

    `kind`: "image" (one slice), "volume" (slices in space), "frames" (a multi-frame image without geometry, its
    last axis is the frame). `shape` is (slices, rows, columns), with the channels behind for colour. `affine` maps
    (column, row, slice) to mm (LPS), None without geometry. `spacing` in mm along (column, row, slice).
    `stack` numbers the stacks of the series; the volumes of one are its phases, on one grid. `phase_value` is the value
    named by `phase_name`, by which the phases of a series are sorted. `problem`: what is odd and no reason to refuse.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uids: tuple[str, ...]
    modality: str
    kind: str
    stack: int
    phase_index: int
    phase_label: str
    phase_name: tuple[str, ...]
    phase_value: tuple[object, ...]
    derived: str
    shape: tuple[int, ...]
    affine: Affine | None
    spacing: tuple[float, float, float] | None
    sheared: bool
    problem: str
    files: tuple[str, ...]
    attributes: Mapping[str, object]
    planes: tuple[Plane, ...]


def load_volume(volume: Volume, *, affine_lps_to_ras: bool = True) -> MetaTensor:
    """Decode to float32 (channels, columns, rows[, slices]); a single slice has no last axis.

    The tensor is a view of slices that lie one after the other in memory, so not contiguous.

    Values are those of the modality LUT (PS3.3 section C.11.1), MONOCHROME1 in the polarity of MONOCHROME2, colour
    as RGB. Padding is left as it is stored and rescaled, as ITK leaves it. The affine is that of the volume, in RAS
    unless `affine_lps_to_ras` is off; without geometry it is the spacing (or 1) along the axes of the patient,
    as MONAI's ITKReader has it.

    Raises a DicomReadError that names the file.
    """
    return _to_tensor(volume, load_planes(volume.planes), affine_lps_to_ras=affine_lps_to_ras)


def _to_tensor(volume: Volume, pixels: npt.NDArray[np.float32], *, affine_lps_to_ras: bool) -> MetaTensor:
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    array = pixels.transpose(3, 2, 1, 0)
    if volume.kind == "image":
        array = array[..., 0]
    affine = np.eye(4) if volume.affine is None else np.array(volume.affine)
    if volume.affine is None and volume.spacing is not None:
        affine = np.diag([*volume.spacing, 1.0])
    if affine_lps_to_ras:
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    meta = {
        ImageMetaKey.FILENAME_OR_OBJ: volume.files[0],
        MetaKeys.ORIGINAL_AFFINE.value: affine.copy(),
        MetaKeys.SPATIAL_SHAPE.value: np.asarray(array.shape[1:]),
        MetaKeys.ORIGINAL_CHANNEL_DIM.value: 0,
        MetaKeys.SPACE.value: SpaceKeys.RAS if affine_lps_to_ras else SpaceKeys.LPS,
        "StudyInstanceUID": volume.study_instance_uid,
        "SeriesInstanceUID": volume.series_instance_uid,
        # one text, as DICOM joins values: lists of different lengths do not collate
        "SOPInstanceUID": "\\".join(volume.sop_instance_uids),
        "Modality": volume.modality,
        "has_geometry": volume.affine is not None,
        "phase_index": volume.phase_index,
        "phase_label": volume.phase_label,
    }
    return MetaTensor(torch.from_numpy(array), affine=torch.from_numpy(affine), meta=meta)
