"""One projection radiograph (CR, DX, secondary capture) out of one DICOM file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seqnorm_monai.images.dicom.errors import OtherModalityError, UnsupportedImageError
from seqnorm_monai.images.dicom.header import Header
from seqnorm_monai.images.dicom.load_planes import gray_values
from seqnorm_monai.images.dicom.open import read_header
from seqnorm_monai.images.dicom.pixels.decode import DECODE_KEYWORDS, PixelLayout, read_layout, read_stored_values
from seqnorm_monai.images.dicom.pixels.grayscale import (
    fill_padding,
    modality_range,
    padding_mask,
    presentation_values,
)
from seqnorm_monai.images.dicom.pixels.luts import LUT_KEYWORDS, read_modality, read_padding, read_voi
from seqnorm_monai.images.dicom.silence import pydicom_silenced

# In the order of trust: PixelSpacing may be calibrated to the patient, the others are at the detector or the film.
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_DESCRIPTIONS = {
    "study_instance_uid": "StudyInstanceUID",
    "series_instance_uid": "SeriesInstanceUID",
    "sop_instance_uid": "SOPInstanceUID",
    "sop_class_uid": "SOPClassUID",
    "modality": "Modality",
    "photometric_interpretation": "PhotometricInterpretation",
    "view_position": "ViewPosition",
    "image_laterality": "ImageLaterality",
}
_KEYWORDS = (*DECODE_KEYWORDS, *LUT_KEYWORDS, *_SPACINGS, *_DESCRIPTIONS.values())


@dataclass(frozen=True)
class Radiograph:
    """An image with the brightest value for the strongest attenuation, as MONOCHROME2 shows it.

    `pixels` (rows, columns), float32. `spacing` is (between rows, between columns) in mm, None where the file has
    no usable one; `spacing_source` names its attribute. The texts are those of the file, "" where absent;
    `photometric_interpretation` is that of the file although `pixels` are always in the polarity of MONOCHROME2.
    """

    pixels: npt.NDArray[np.float32]
    spacing: tuple[float, float] | None
    spacing_source: str | None
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    modality: str
    photometric_interpretation: str
    transfer_syntax_uid: str
    view_position: str
    image_laterality: str


def read_radiograph(
    path: str | os.PathLike[str], *, apply_voi: bool = False, modalities: Sequence[str] | None = None
) -> Radiograph:
    """Read a single-frame grayscale DICOM image: decode, modality LUT, optional VOI LUT, polarity, padding.

    Without `apply_voi` the pixels are modality values (PS3.3 section C.11.1), not normalised; float32 rounds those
    of more than 24 bits. With it they are in [0, 1]: the output range of the file's first VOI LUT or window
    (section C.11.2), or the possible range of modality values where the file has none.

    MONOCHROME1 (section C.7.6.3.1.2: the smallest value is shown white) is inverted by reflecting over the possible
    range, see `pixels.modality_values`. Presentation LUT Shape is not consulted: in an image INVERSE accompanies
    MONOCHROME1 and IDENTITY accompanies MONOCHROME2 (sections C.8.11.3 and C.11.6), so it repeats the photometric
    interpretation, and inverting for it as well would invert twice.

    Padded pixels (section C.7.5.1.1.2) are outside the collimated or rectangular image and get the smallest value
    of all others, dark like air, in either polarity. Lossy compression blurs them beyond recognition.

    `modalities`: those accepted, e.g. ``["CR", "DX"]``; a file without Modality is accepted too, because
    anonymised public sets drop it.

    Raises a subclass of DicomReadError.
    """
    with pydicom_silenced():
        header = read_header(path, _KEYWORDS)
        layout = read_layout(header)
        _check_modality(header, modalities)
        pixels = _pixels(header, layout, apply_voi=apply_voi)
    spacing, source = _spacing(header)
    texts = {field: header.text(keyword) for field, keyword in _DESCRIPTIONS.items()}
    return Radiograph(pixels, spacing, source, transfer_syntax_uid=header.transfer_syntax, **texts)


def _check_modality(header: Header, modalities: Sequence[str] | None) -> None:
    if isinstance(modalities, str):
        raise TypeError(f"modalities: a sequence of strings is needed, not the string {modalities!r}")
    modality = "" if modalities is None else header.code("Modality")
    if modality and modality not in modalities:
        raise OtherModalityError(header.path, f"Modality {modality}, accepted are {', '.join(modalities)}")


def _pixels(header: Header, layout: PixelLayout, *, apply_voi: bool) -> npt.NDArray[np.float32]:
    # The small elements first: a bad one is found without decoding.
    modality = read_modality(header, signed=layout.signed)
    padding_limits = read_padding(header, signed=layout.signed)
    invert = header.code("PhotometricInterpretation") == "MONOCHROME1"
    voi = None
    if apply_voi:
        voi = read_voi(header, signed=modality_range(layout.stored_range, modality)[0] < 0)
    stored = read_stored_values(header, layout)
    if apply_voi:
        values = presentation_values(
            stored.astype(np.float64), layout.stored_range, modality, voi, invert=invert
        ).astype(np.float32)
    else:
        values = gray_values(header.path, stored, layout, modality, inverted=invert)
    if padding_limits is not None:
        padding = padding_mask(stored, padding_limits)
        if padding.all():
            raise UnsupportedImageError(header.path, "every pixel is padding (PixelPaddingValue)")
        values = fill_padding(values, padding)
    return values


def _spacing(header: Header) -> tuple[tuple[float, float], str] | tuple[None, None]:
    """The first usable spacing of PS3.3 section 10.7.1; zeros and text, left by anonymisers, are passed over."""
    for keyword in _SPACINGS:
        try:
            values = header.decimals(keyword)
        except UnsupportedImageError:
            continue
        if len(values) == 2 and min(values) > 0:
            return (values[0], values[1]), keyword
    return None, None
