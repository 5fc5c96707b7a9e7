"""The one class of refusals; its `reason` tells them apart."""

from __future__ import annotations

from seqnorm_monai.images.errors import ImageReadError


class NiftiReadError(ImageReadError):
    """A file that is not NIfTI, is damaged, contradicts itself, or holds what is no image of this project."""
