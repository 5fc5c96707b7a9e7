"""PNG, JPEG and TIFF files, one image each."""

from seqnorm_monai.images.raster.decode import read_raster_image
from seqnorm_monai.images.raster.errors import RasterReadError
from seqnorm_monai.images.raster.formats import has_raster_name, raster_format
from seqnorm_monai.images.raster.grey import to_grey
from seqnorm_monai.images.raster.header import RasterImage, read_raster

__all__ = [
    "RasterImage",
    "RasterReadError",
    "has_raster_name",
    "raster_format",
    "read_raster",
    "read_raster_image",
    "to_grey",
]
