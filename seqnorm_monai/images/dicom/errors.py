"""Why a DICOM file was refused, in a form that a caller can sort, report and send between processes."""

from __future__ import annotations

from collections.abc import Sequence

from seqnorm_monai.images.errors import ImageReadError


class DicomReadError(ImageReadError):
    """A DICOM file, or a series of them, that cannot be turned into an image."""


class UnreadableFileError(DicomReadError):
    """The file system refuses: no such file, a directory, no permission."""


class NotDicomError(DicomReadError):
    """The file holds something else than a DICOM data set."""


class NoPixelDataError(DicomReadError):
    """A DICOM data set without an image: a report, a structure set, a plan, a directory."""

    set_aside = True


class UnsupportedImageError(DicomReadError):
    """A DICOM image, but not of the kind asked for, or described by a contradictory header."""


class OtherModalityError(UnsupportedImageError):
    """An image of a modality that was not asked for."""

    set_aside = True


class PixelDecodeError(DicomReadError):
    """The pixel data are cut off, damaged, or compressed in a way that no installed decoder reads."""


class SeriesError(DicomReadError):
    """Files that belong together and are no volume: slices missing, double, or at odds with each other.

    `files` names all of them, `path` is the first.
    """

    def __init__(self, files: Sequence[str], reason: str, advice: str = "") -> None:
        super().__init__(files[0], reason, advice)
        # an exception is pickled as its class and these
        self.args = (tuple(files), reason, advice)
        self.files = tuple(files)
