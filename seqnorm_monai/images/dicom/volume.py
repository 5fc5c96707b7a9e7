"""One phase of one series: what it is, before and after its pixels are decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seqnorm_monai.images.dicom.load_planes import load_planes
from seqnorm_monai.images.dicom.plane import Plane
from seqnorm_monai.images.image_array import LPS_TO_RAS, MODALITY_VALUES, ImageArray, ReadOptions

Affine = tuple[tuple[float, ...], ...]
# Codes that meta data keep, by their defined terms (PS3.3 sections C.8.11.5, C.8.7.1 and C.8.11.7, and what writers of
# mammograms put there): anything else may be what a person wrote.
_CODES = {
    "ViewPosition": {
        *("AP", "PA", "LL", "RL", "RLD", "LLD", "RLO", "LLO", "LAT", "LATERAL"),
        *("CC", "MLO", "ML", "LM", "LMO", "SIO", "XCC", "XCCL", "XCCM", "FB", "AT", "CV"),
    },
    "ImageLaterality": {"R", "L", "U", "B"},
}


@dataclass(frozen=True)
class Volume:
    """One phase of one series, not yet decoded.

    `kind`: "image" (one slice), "volume" (slices in space), "frames" (a multi-frame image without geometry, its
    last axis is the frame). `shape` is (slices, rows, columns), with the channels behind for colour. `affine` maps
    (column, row, slice) to mm (LPS), None without geometry. `spacing` in mm along (column, row, slice).
    `stack` numbers the stacks of the series; the volumes of one are its phases, on one grid. `phase_value` is the value
    named by `phase_name`, by which the phases of a series are sorted. `warning`: what is odd and no reason to refuse.
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
    warning: str
    files: tuple[str, ...]
    attributes: Mapping[str, object]
    planes: tuple[Plane, ...]

    def read(self, options: ReadOptions = MODALITY_VALUES) -> ImageArray:
        """`read_volumes` of this phase alone."""
        return read_volumes([self], options)


def read_volumes(volumes: Sequence[Volume], options: ReadOptions = MODALITY_VALUES) -> ImageArray:
    """Decode phases that lie on one grid, each file opened once: (phases * channels, columns, rows[, slices]).

    A single slice has no last axis. The array is a view of slices that lie one after the other in memory, so not
    contiguous. Values: see `load_planes`. The affine is that of the volumes, in RAS; without geometry it is the
    spacing (or 1) along the axes of the patient, as MONAI's ITKReader has it. Meta data are those of the first phase,
    `phase_index` and `phase_label` where it is the only one.

    Raises a DicomReadError that names the file.
    """
    first = volumes[0]
    pixels = load_planes([plane for volume in volumes for plane in volume.planes], options)
    slices, rows, columns = first.shape[:3]
    array = pixels.reshape(len(volumes), slices, rows, columns, -1).transpose(0, 4, 3, 2, 1)
    array = array.reshape(-1, columns, rows, slices)
    return ImageArray(
        path=first.files[0],
        pixels=array[..., 0] if first.kind == "image" else array,
        affine=_affine(first),
        has_geometry=first.affine is not None,
        meta=_meta(volumes),
    )


def _affine(volume: Volume) -> np.ndarray:
    if volume.affine is not None:
        return LPS_TO_RAS @ np.array(volume.affine)
    return LPS_TO_RAS @ np.diag([*(volume.spacing or (1.0, 1.0, 1.0)), 1.0])


def _meta(volumes: Sequence[Volume]) -> dict[str, object]:
    volume, plane = volumes[0], volumes[0].planes[0]
    given = {keyword: str(volume.attributes.get(keyword, "")) for keyword in _CODES}
    codes = {keyword: text if text in _CODES[keyword] else "" for keyword, text in given.items()}
    phase = {"phase_index": volume.phase_index, "phase_label": volume.phase_label} if len(volumes) == 1 else {}
    return {
        "StudyInstanceUID": volume.study_instance_uid,
        "SeriesInstanceUID": volume.series_instance_uid,
        # one text, as DICOM joins values: lists of different lengths do not collate
        "SOPInstanceUID": "\\".join(volume.sop_instance_uids),
        "Modality": volume.modality,
        "SOPClassUID": str(volume.attributes.get("SOPClassUID", "")),
        **codes,
        "PhotometricInterpretation": plane.encoding.photometric,
        "TransferSyntaxUID": plane.encoding.transfer_syntax,
        # the attribute that the spacing comes from, "" where there is none
        "spacing_source": plane.spacing_source,
        **phase,
    }
