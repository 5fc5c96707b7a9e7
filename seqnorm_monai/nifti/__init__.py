"""NIfTI files to the tensors that DICOM series become, or refusals that name the file and the reason."""

from seqnorm_monai.nifti.errors import NiftiReadError
from seqnorm_monai.nifti.files import is_nifti, voxel_file
from seqnorm_monai.nifti.volumes import NiftiVolume, load_nifti, read_nifti

__all__ = ["NiftiReadError", "NiftiVolume", "is_nifti", "load_nifti", "read_nifti", "voxel_file"]
