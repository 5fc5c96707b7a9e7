"""What a DICOM file says, read with pydicom, its decoders and imagecodecs alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import pixel_array
from pydicom.uid import (
    JPEG2000,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
)

from seqnorm_monai.images.dicom.silence import pydicom_silenced

_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEG2000)
_MACROS = (
    *("FrameContentSequence", "PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"),
    "PixelValueTransformationSequence",
)
# x to the left and y to the back -> to the right and to the front
_TO_RAS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Frame:
    """`values` (rows, columns, channels) after the modality LUT, within `tolerance`; `place` (3, 3): steps in mm (RAS)
    along a row and along a column, and the position, None where the file has none; `time`: its temporal position."""

    values: np.ndarray
    tolerance: float
    place: np.ndarray | None
    time: object


def reference_frames(path: Path) -> list[Frame] | None:
    """The frames of a file; None where pydicom refuses it, or where its values take more than this knows."""
    try:
        with pydicom_silenced():
            dataset = pydicom.dcmread(path, force=True)
            photometric = dataset.PhotometricInterpretation.strip().upper()
            # pydicom takes the lowest bits whatever High Bit says
            high = int(dataset.get("HighBit", dataset.BitsStored - 1)) != dataset.BitsStored - 1
            if high or "ModalityLUTSequence" in dataset or photometric == "PALETTE COLOR":
                return None
            number, samples = int(dataset.get("NumberOfFrames") or 1), int(dataset.SamplesPerPixel)
            shape = number, dataset.Rows, dataset.Columns, 3 if samples > 1 else 1
            stored = _decoded(dataset).astype(np.float64).reshape(shape)
            if photometric == "MONOCHROME1":
                stored = (-1 if dataset.PixelRepresentation else 2 ** int(dataset.BitsStored) - 1) - stored
            return [_frame(dataset, frame, stored[frame]) for frame in range(number)]
    # decoders in Rust panic, which is no Exception
    except BaseException as error:
        if isinstance(error, (TimeoutError, KeyboardInterrupt)):
            raise
        return None


def _decoded(dataset: pydicom.FileDataset) -> np.ndarray:
    """Stored values, colour as RGB."""
    implicit, little = dataset.original_encoding
    if "TransferSyntaxUID" not in dataset.file_meta:
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    # one frame, and none of pydicom's own decoders knows 12 bits
    if dataset.file_meta.TransferSyntaxUID == JPEGExtended12Bit:
        return imagecodecs.jpeg_decode(get_frame(dataset.PixelData, 0, number_of_frames=1))
    # Every decoder makes something else of a damaged stream, which nothing in it gives away: the one that is ours.
    same = dataset.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
    return pixel_array(dataset, decoding_plugin="pillow" if same else "")


def _frame(dataset: pydicom.FileDataset, frame: int, stored: np.ndarray) -> Frame:
    groups = [dataset]
    for keyword, item in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", frame)):
        if keyword in dataset:
            group = dataset[keyword].value[item]
            groups = [group[macro].value[0] for macro in _MACROS if group.get(macro)] + groups
    values = stored
    if stored.shape[-1] == 1:
        slope, intercept = _get(groups, "RescaleSlope"), _get(groups, "RescaleIntercept")
        values = stored * float(1 if slope is None else slope) + float(0 if intercept is None else intercept)
    lossy = dataset.file_meta.TransferSyntaxUID in _LOSSY
    # decoders of lossy streams round in their own ways
    tolerance = 3.0 if lossy else 1e-5 * (1 + float(np.abs(values).max()))
    single = len(groups) == 1 and int(dataset.get("NumberOfFrames") or 1) > 1
    time = _get(groups, "TemporalPositionIdentifier") or _get(groups, "TemporalPositionIndex")
    return Frame(values, tolerance, None if single else _place(groups), time)


def _get(groups: list[Dataset], keyword: str) -> object:
    return next((group.get(keyword) for group in groups if group.get(keyword) is not None), None)


def _place(groups: list[Dataset]) -> np.ndarray | None:
    """The equation of PS3.3 section C.7.6.2.1.1."""
    try:
        position = np.array(_get(groups, "ImagePositionPatient"), np.float64).reshape(3)
        axes = np.array(_get(groups, "ImageOrientationPatient"), np.float64).reshape(2, 3)
        spacing = np.array(_get(groups, "PixelSpacing"), np.float64).reshape(2)
    # no place, or none that can be read
    except Exception:
        return None
    place = np.stack([axes[0] * spacing[1], axes[1] * spacing[0], position]) * _TO_RAS
    return place if spacing.min() > 0 and np.isfinite(place).all() else None
