"""Series and phases as NIfTI files whose names and headers say nothing of the patient."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
from monai.data import MetaTensor

from seqnorm_monai.dicom.listing import Entry, Listing, Row
from seqnorm_monai.files import replacing_bytes
from seqnorm_monai.read_errors import ImageReadError

_SCANNER = 1
_UNKNOWN = 0


def write_nifti(listing: Listing, folder: Path) -> list[Path]:
    """Write every entry into `folder`; one that cannot be read is rejected in the listing, and the others written.

    Names: study and series instance UID and the phase, or ``nifti-`` and a number where there is no UID. Raises OSError
    when the folder cannot be written.
    """
    written = []
    for entry in list(listing.entries):
        try:
            image = entry.load()
        except ImageReadError as error:
            listing.reject(entry, error)
            continue
        path = folder / file_name(entry.row)
        with replacing_bytes(path) as stream:
            stream.write(nifti_bytes(image, entry))
        written.append(path)
    return written


def file_name(row: Row) -> str:
    """``STUDY_SERIES[_phase-02].nii.gz``: unique among the rows of a listing."""
    uids = [_safe(uid) for uid in (row.study_instance_uid, row.series_instance_uid) if uid]
    name = "_".join(uids) if len(uids) == 2 else f"{row.format.lower()}-{row.study}-{row.series}"
    return name + (f"_phase-{row.phase:0{len(str(row.phases))}}" if row.phases > 1 else "") + ".nii.gz"


def nifti_bytes(image: MetaTensor, entry: Entry) -> bytes:
    """A NIfTI-1 file, compressed: (x, y, z) float32, or RGB voxels where the image has three channels of bytes.

    The affine is written as sform and as qform, as far as a rotation and spacings can say it, with code 1 (scanner
    coordinates), or 0 (unknown) for an image without a place in the patient. Other channels go to the fifth axis.
    """
    array = image.numpy()
    array = array.reshape((*array.shape, 1)) if array.ndim == 3 else array
    code = _SCANNER if entry.row.orientation else _UNKNOWN
    affine = np.asarray(image.affine, dtype=np.float64)
    written = nibabel.Nifti1Image(_voxels(array), affine)
    written.header.set_xyzt_units("mm", "sec")
    written.set_sform(affine, code=code)
    written.set_qform(affine, code=code, strip_shears=True)
    return _packed(written)


def _voxels(array: npt.NDArray[np.float32]) -> npt.NDArray[np.generic]:
    if array.shape[0] == 1:
        return array[0]
    channels_last = np.ascontiguousarray(np.moveaxis(array, 0, -1))
    if array.shape[0] == 3 and np.array_equal(channels_last, channels_last.astype(np.uint8)):
        return channels_last.astype(np.uint8).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    return channels_last[..., np.newaxis, :]


def _packed(image: nibabel.Nifti1Image) -> bytes:
    # no name and no time in the gzip header: the same pixels give the same file
    return gzip.compress(image.to_bytes(), 6, mtime=0)


def _safe(uid: str) -> str:
    """The identifier if it is one, else no part of it: a header may hold anything."""
    return uid if uid.replace(".", "").isdigit() and uid.isascii() and len(uid) <= 64 else "no-uid"
