"""One phase of one series: what it is, before and after its pixels are decoded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from monai.data import MetaTensor

from seqnorm_monai.dicom.colour import PALETTE_KEYWORDS, apply_palette, colour_frame_bytes, decode_colour
from seqnorm_monai.dicom.decode import DECODE_KEYWORDS, PixelLayout, decode_stored_values, read_cells
from seqnorm_monai.dicom.errors import DicomReadError, PixelDecodeError, UnsupportedImageError
from seqnorm_monai.dicom.files import read_header
from seqnorm_monai.dicom.framedata import read_frames
from seqnorm_monai.dicom.header import Header
from seqnorm_monai.dicom.instance import Plane
from seqnorm_monai.dicom.luts import LUT_KEYWORDS, read_modality
from seqnorm_monai.dicom.pixeldata import EncodedPixels
from seqnorm_monai.dicom.pixels import LookupTable, Rescale, modality_values

_KEYWORDS = (*DECODE_KEYWORDS, *LUT_KEYWORDS, *PALETTE_KEYWORDS, "PlanarConfiguration", "SOPInstanceUID")
Affine = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Volume:
    """One phase of one series, not yet decoded.

    `kind`: "image" (one slice), "volume" (slices in space), "frames" (a multi-frame image without geometry, its
    last axis is the frame). `shape` is (slices, rows, columns), with the channels behind for colour. `affine` maps
    (column, row, slice) to mm (LPS), None without geometry. `spacing` in mm along (column, row, slice).
    `phase_value` is the value named by `phase_name`, by which the phases of a series are sorted.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uids: tuple[str, ...]
    modality: str
    kind: str
    phase_index: int
    phase_label: str
    phase_name: tuple[str, ...]
    phase_value: tuple[object, ...]
    derived: str
    shape: tuple[int, ...]
    affine: Affine | None
    spacing: tuple[float, float, float] | None
    sheared: bool
    files: tuple[str, ...]
    attributes: Mapping[str, object]
    planes: tuple[Plane, ...]
    # what looks incomplete, but may be so on purpose
    problem: str = ""


def load_volume(volume: Volume, *, affine_lps_to_ras: bool = True) -> MetaTensor:
    """Decode to float32 (channels, columns, rows[, slices]); a single slice has no last axis.

    Values are those of the modality LUT (PS3.3 section C.11.1), MONOCHROME1 in the polarity of MONOCHROME2, colour
    as RGB. Padding is left as it is stored and rescaled, as ITK leaves it. The affine is that of the volume, in RAS
    unless `affine_lps_to_ras` is off; without geometry it is the spacing (or 1) along the axes of the patient,
    as MONAI's ITKReader has it.

    Raises a DicomReadError that names the file.
    """
    by_file: dict[Path, list[tuple[int, Plane]]] = defaultdict(list)
    for index, plane in enumerate(volume.planes):
        by_file[plane.path].append((index, plane))
    pixels: npt.NDArray[np.float32] | None = None
    for path, members in by_file.items():
        for index, values in _decode_file(path, members):
            if pixels is None:
                # empty pages: the memory is taken as the slices come
                pixels = np.empty((len(volume.planes), *values.shape), np.float32)
            elif values.shape != pixels.shape[1:]:
                raise UnsupportedImageError(path, "the image differs in size from the others of its series")
            pixels[index] = values
    assert pixels is not None, "a volume has planes"
    return _to_tensor(volume, pixels, affine_lps_to_ras=affine_lps_to_ras)


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
        "filename_or_obj": volume.files[0],
        "study_instance_uid": volume.study_instance_uid,
        "series_instance_uid": volume.series_instance_uid,
        "sop_instance_uids": list(volume.sop_instance_uids),
        "modality": volume.modality,
        "kind": volume.kind,
        "phase_index": volume.phase_index,
        "phase": volume.phase_label,
        "pixel_spacing": list(volume.spacing) if volume.spacing else [],
        "has_geometry": volume.affine is not None,
        "space": "RAS" if affine_lps_to_ras else "LPS",
        "original_channel_dim": 0,
    }
    return MetaTensor(torch.from_numpy(np.ascontiguousarray(array)), affine=torch.from_numpy(affine), meta=meta)


def _decode_file(path: Path, members: list[tuple[int, Plane]]) -> list[tuple[int, npt.NDArray[np.float32]]]:
    """The frames of one file that a volume needs. Whatever goes wrong is a DicomReadError of this file."""
    try:
        header = read_header(path, _KEYWORDS)
        plane = members[0][1]
        layout = read_cells(header)
        size = layout.rows, layout.columns, header.text("SOPInstanceUID")
        if size != (plane.rows, plane.columns, plane.sop_instance_uid):
            raise UnsupportedImageError(path, "the file changed since it was scanned", "read the study again")
        colour = (header.integer("SamplesPerPixel") or 1) == 3
        frame_bytes = colour_frame_bytes(header, layout) if colour else layout.size
        frames = header.integer("NumberOfFrames") or 1
        encoded = read_frames(header, frame_bytes, frames, [plane.frame for _, plane in members])
        return [(index, _values(header, layout, encoded[plane.frame], plane)) for index, plane in members]
    except DicomReadError:
        raise
    except OSError:
        raise PixelDecodeError(path, "cannot be opened again") from None
    # a damaged file may raise anything; its text is not passed on
    except Exception as error:
        raise PixelDecodeError(path, f"the pixels cannot be read ({type(error).__name__})") from None


def _values(header: Header, layout: PixelLayout, encoded: EncodedPixels, plane: Plane) -> npt.NDArray[np.float32]:
    photometric = header.code("PhotometricInterpretation")
    if (header.integer("SamplesPerPixel") or 1) == 3:
        return decode_colour(header, layout, encoded).astype(np.float32)
    if photometric not in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"):
        raise UnsupportedImageError(header.path, f"PhotometricInterpretation {photometric or 'missing'} of one sample")
    stored = decode_stored_values(header, layout, encoded)
    if photometric == "PALETTE COLOR":
        return apply_palette(header, stored).astype(np.float32)
    modality: LookupTable | Rescale
    if plane.rescale is not None:
        modality = Rescale(*plane.rescale)
    else:
        modality = read_modality(header, signed=layout.signed)
    invert = photometric == "MONOCHROME1"
    values = modality_values(stored.astype(np.float64), layout.stored_range, modality, invert=invert)
    with np.errstate(over="ignore"):
        pixels = values.astype(np.float32)
    if not np.isfinite(pixels).all():
        raise UnsupportedImageError(header.path, "the rescaled values exceed float32 (RescaleSlope, RescaleIntercept)")
    return pixels
