"""NIfTI files."""

from seqnorm_monai.images.nifti.byte_ranges import has_nifti_name, is_nifti, voxel_file
from seqnorm_monai.images.nifti.errors import NiftiReadError
from seqnorm_monai.images.nifti.volumes import NiftiVolume, read_nifti, read_volumes

__all__ = ["NiftiReadError", "NiftiVolume", "has_nifti_name", "is_nifti", "read_nifti", "read_volumes", "voxel_file"]
