"""Which DICOM objects are no images to read, and what they are called (PS3.4 table B.5-1)."""

from __future__ import annotations

from seqnorm_monai.images.dicom.header import Header

# parts of the names of SOP classes
_NO_IMAGES = {
    " SR": "a structured report",
    "SR Storage": "a structured report",
    "Key Object": "a key object selection",
    "Presentation State": "a presentation state",
    "RT Structure": "an RT structure set",
    "RT Plan": "an RT plan",
    "RT Ion Plan": "an RT plan",
    "RT Dose": "an RT dose distribution",
    "RT ": "an RT object",
    "Segmentation": "a segmentation",
    "Encapsulated": "an encapsulated document",
    "Waveform": "a waveform",
    "ECG": "a waveform",
    "Raw Data": "raw data",
    "Media Storage Directory": "the directory of a medium",
    "Registration": "a spatial registration",
    "Fiducials": "fiducials",
    "Surface": "a surface mesh",
    "Parametric Map": "a parametric map",
    "Real World Value": "a real world value mapping",
    "Tractography": "tractography results",
    "Spectroscopy": "a spectroscopy",
    "Whole Slide": "a whole-slide image",
}


def set_aside_kind(header: Header) -> str:
    """In words what `header` belongs to if it is no image for this reader, else ""."""
    name = header.sop_class_name()
    if "RT Image" in name:
        return ""
    for part, kind in _NO_IMAGES.items():
        if part in name:
            return kind
    if header.pixel_offset is None and header.integer("Rows") is None and "Image Storage" not in name:
        return f"no image: {name}"
    return ""
