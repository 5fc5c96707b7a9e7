"""What the SOP class says of an object (PS3.4 table B.5-1): that it is no image, or an image but no slice."""

from __future__ import annotations

from pydicom import uid

from seqnorm_monai.images.dicom.header import Header
from seqnorm_monai.images.dicom.identifiers import is_uid

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
# Images that are no slices: projections, photographs and ultrasound have no image plane module (PS3.3 section A.1.4).
# A position in their header is a mistake, of converters that copy the header of a slice.
PROJECTION_CLASSES = frozenset(
    (
        uid.ComputedRadiographyImageStorage,
        *(uid.DigitalXRayImageStorageForPresentation, uid.DigitalXRayImageStorageForProcessing),
        *(uid.DigitalMammographyXRayImageStorageForPresentation, uid.DigitalMammographyXRayImageStorageForProcessing),
        *(uid.BreastProjectionXRayImageStorageForPresentation, uid.BreastProjectionXRayImageStorageForProcessing),
        *(uid.DigitalIntraOralXRayImageStorageForPresentation, uid.DigitalIntraOralXRayImageStorageForProcessing),
        *(uid.XRayAngiographicImageStorage, uid.EnhancedXAImageStorage),
        *(uid.XRayRadiofluoroscopicImageStorage, uid.EnhancedXRFImageStorage),
        *(uid.RTImageStorage, uid.UltrasoundImageStorage, uid.UltrasoundMultiFrameImageStorage),
        *(uid.VLEndoscopicImageStorage, uid.VideoEndoscopicImageStorage),
        *(
            uid.VLMicroscopicImageStorage,
            uid.VideoMicroscopicImageStorage,
            uid.VLSlideCoordinatesMicroscopicImageStorage,
        ),
        *(uid.VLPhotographicImageStorage, uid.VideoPhotographicImageStorage, uid.DermoscopicPhotographyImageStorage),
        *(uid.OphthalmicPhotography8BitImageStorage, uid.OphthalmicPhotography16BitImageStorage),
    )
)
# They hold anything: whether a photograph, a screenshot or the slices of a converter is said by Modality.
_SECONDARY_CAPTURES = frozenset(
    (
        uid.SecondaryCaptureImageStorage,
        uid.MultiFrameSingleBitSecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
    )
)
_SLICE_MODALITIES = frozenset(("CT", "MR", "PT", "NM", "OPT"))
# the same by Modality (PS3.3 section C.7.3.1.1.1), for objects without a known SOP class
PROJECTION_MODALITIES = frozenset(
    (
        *("CR", "DX", "MG", "RF", "XA", "IO", "PX", "RG", "DF", "DS", "VF", "RTIMAGE"),
        *("US", "IVUS", "EC"),
        *("XC", "GM", "SM", "ES", "OP", "OPM", "DMS", "FA", "FS", "CF", "CP", "CS", "LP", "HC", "TG"),
    )
)


# Their values are Hounsfield units, or activities and what is computed from them (PS3.3 sections C.8.2.1, C.8.9.1).
_PHYSICAL_CLASSES = frozenset(
    (
        *(uid.CTImageStorage, uid.EnhancedCTImageStorage, uid.LegacyConvertedEnhancedCTImageStorage),
        *(uid.PositronEmissionTomographyImageStorage, uid.EnhancedPETImageStorage),
        uid.LegacyConvertedEnhancedPETImageStorage,
    )
)
_PHYSICAL_MODALITIES = frozenset(("CT", "PT"))


def not_an_image(header: Header) -> str:
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


def is_projection(header: Header) -> bool:
    """Whether an image stands for itself whatever geometry its header claims: a projection, photograph or ultrasound.

    By SOP class; tomosynthesis and 3D angiography are slices, although Modality is that of their projections. By
    Modality where the class is absent, private or unknown: what the meta information of the file says of it was often
    added by the last program that wrote the file. A secondary capture is a slice only under the Modality of slices:
    converters write whole volumes so.
    """
    modality = header.label("Modality")
    sop_class = header.text("SOPClassUID") or ("" if modality else header.media_storage_class)
    if sop_class in PROJECTION_CLASSES:
        return True
    if sop_class in _SECONDARY_CAPTURES:
        return modality not in _SLICE_MODALITIES
    known = is_uid(sop_class) and uid.UID(sop_class).name != sop_class
    return not known and modality in PROJECTION_MODALITIES


def is_capture(header: Header) -> bool:
    """Whether an image is a secondary capture: of slices only where the others of its series make a volume with it."""
    return header.text("SOPClassUID") in _SECONDARY_CAPTURES


def is_physical(header: Header) -> bool:
    """Whether pixels are CT numbers or activities of PET, by SOP class or by the Modality of what is no projection."""
    if header.text("SOPClassUID") in _PHYSICAL_CLASSES:
        return True
    return header.label("Modality") in _PHYSICAL_MODALITIES and not is_projection(header)
