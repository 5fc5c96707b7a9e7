"""Series and phases as NIfTI files whose names and headers say nothing of the patient."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from seqnorm_monai.atomic_files import replacing_bytes
from seqnorm_monai.images.errors import ImageReadError
from seqnorm_monai.images.image_array import ImageArray
from seqnorm_monai.images.inventory import Inventory
from seqnorm_monai.images.rows import SeriesRow

# xform codes of nifti1.h: coordinates of the scanner, and others; 0 would make readers ignore the matrix.
_SCANNER, _OTHER = 1, 2
# Axes are counted in 16 bits in NIfTI-1.
_MAX_AXIS = 32_767
# intent codes of nifti1.h for channels along the fifth axis
_VECTORS = {3: "NIFTI_INTENT_RGB_VECTOR", 4: "NIFTI_INTENT_RGBA_VECTOR"}
_INTEGERS = (np.uint8, np.int16, np.uint16)
_LEVEL = 6
# What a qform may be away from the affine, in voxels: in single precision it loses turns near 180 degrees.
_ROUNDED = 0.01


def write_nifti(inventory: Inventory, folder: Path) -> list[Path]:
    """Write every entry into `folder`; one that cannot be read is rejected in the inventory, and the others written.

    The rows tell the name of their file. Raises OSError when the folder cannot be written.
    """
    written = []
    for entry in list(inventory.entries):
        try:
            image = entry.read()
        except ImageReadError as error:
            inventory.reject(entry, error)
            continue
        path = folder / file_name(entry.row)
        with replacing_bytes(path) as stream:
            save_nifti(image, stream, placed=entry.row.affine is not None)
        inventory.change(entry, nifti=path.name)
        written.append(path)
    return written


def file_name(row: SeriesRow) -> str:
    """``STUDY_SERIES[_stack-3][_phase-02].nii.gz`` by UIDs, else by format and numbers: unique in a inventory."""
    uids = (row.study_instance_uid, row.series_instance_uid)
    name = "_".join(uids) if all(map(_is_safe, uids)) else f"{row.format.lower()}-{row.study}-{row.series}"
    stack = f"_stack-{row.stack:0{len(str(row.stacks))}}" if row.stacks > 1 else ""
    phase = f"_phase-{row.phase:0{len(str(row.phases))}}" if row.phases > 1 else ""
    return f"{name}{stack}{phase}.nii.gz"


def save_nifti(image: ImageArray, stream: BinaryIO, *, placed: bool) -> None:
    """Write an image (channels, x, y[, z]) as compressed NIfTI-1 (NIfTI-2 where an axis is too long for it).

    Values are stored without scaling in the smallest of uint8, int16, uint16 and float32 that holds all of them
    exactly; three channels of bytes as RGB voxels, other channels along the fifth axis. One slice has a third axis of
    length 1. The affine is the sform, with code 1 (scanner coordinates) if the image is `placed` in the patient, else
    2; and the qform where that can say the same, without shears. The same image gives the same bytes.
    """
    # imported here: most runs write no file, and it takes a third of a second
    import nibabel

    array = image.pixels
    array = array.reshape((*array.shape, 1)) if array.ndim == 3 else array
    voxels = _voxels(array)
    affine = image.affine
    kind = nibabel.Nifti2Image if max(voxels.shape) > _MAX_AXIS else nibabel.Nifti1Image
    written = kind(voxels, affine, dtype=voxels.dtype)
    written.header.set_xyzt_units("mm", "sec")
    if voxels.ndim == 5:
        written.header.set_intent(_VECTORS.get(array.shape[0], "NIFTI_INTENT_VECTOR"))
    code = _SCANNER if placed else _OTHER
    written.set_sform(affine, code=code)
    written.set_qform(affine, code=code, strip_shears=True)
    error = np.abs(written.get_qform() - affine) @ np.array([*voxels.shape[:3], 1.0])
    if error.max() > _ROUNDED * np.linalg.norm(affine[:3, :3], axis=0).min():
        written.set_qform(None, code=0)
    # no name and no time in the gzip header
    with gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=stream, mtime=0) as packed:
        written.to_stream(packed)


def _voxels(array: npt.NDArray[np.float32]) -> npt.NDArray[np.generic]:
    exact = _exact(array)
    if exact.shape[0] == 1:
        return exact[0]
    channels_last = np.ascontiguousarray(np.moveaxis(exact, 0, -1))
    if exact.shape[0] == 3 and exact.dtype == np.uint8:
        return channels_last.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    return channels_last[..., np.newaxis, :]


def _exact(array: npt.NDArray[np.float32]) -> npt.NDArray[np.generic]:
    """The same values in the smallest type that holds them."""
    low, high = float(array.min()), float(array.max())
    for kind in _INTEGERS:
        limits = np.iinfo(kind)
        # also false for NaN
        if limits.min <= low and high <= limits.max:
            integers = array.astype(kind)
            return integers if np.array_equal(integers, array) else array
    return array


def _is_safe(uid: str) -> bool:
    """Whether a text is an identifier and nothing else: a header may hold anything."""
    return uid.isascii() and uid.replace(".", "").isdigit() and len(uid) <= 64
