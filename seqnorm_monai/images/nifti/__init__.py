"""NIfTI files to the tensors that DICOM series become, or refusals that name the file and the reason."""

from seqnorm_monai.images.nifti.byte_ranges import is_nifti, voxel_file
from seqnorm_monai.images.nifti.errors import NiftiReadError
from seqnorm_monai.images.nifti.volumes import NiftiVolume, load_nifti, read_nifti

__all__ = ["NiftiReadError", "NiftiVolume", "is_nifti", "load_nifti", "read_nifti", "voxel_file"]
