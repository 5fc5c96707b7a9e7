"""A PNG, JPEG or TIFF file that is refused."""

from seqnorm_monai.images.errors import ImageReadError


class RasterReadError(ImageReadError):
    """A PNG, JPEG or TIFF file that cannot be turned into an image."""
