"""What the header of a PNG, JPEG or TIFF file says of its image, before a pixel is decoded."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from seqnorm_monai.images.machine_errors import raise_machine_error
from seqnorm_monai.images.raster.errors import RasterReadError
from seqnorm_monai.images.raster.formats import raster_format

# Twice what Pillow warns of: 13377 pixels squared. A larger one is a slide, or a small file that unpacks to very much.
MAX_PIXELS = 178_956_970
# Pillow's modes: (channels, with an alpha channel behind them, bits of a value)
_MODES = {
    "1": (1, False, 1),
    "L": (1, False, 8),
    "LA": (1, True, 8),
    "I;16": (1, False, 16),
    "I;16B": (1, False, 16),
    "I;16L": (1, False, 16),
    "I": (1, False, 32),
    "F": (1, False, 32),
    "P": (3, False, 8),
    "PA": (3, True, 8),
    "RGB": (3, False, 8),
    "RGBA": (3, True, 8),
}
_BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC = 258, 259, 262
_MIN_IS_WHITE = 0


@dataclass(frozen=True)
class RasterImage:
    """One file, not yet decoded.

    `shape` (x, y) after the turn that the file asks for (EXIF Orientation), `channels` 1 or 3 (a palette counts as
    colour), `bits` of a stored value, 1 for a mask. `warnings` say what is odd about the file.
    """

    path: Path
    format: str
    shape: tuple[int, int]
    channels: int
    bits: int
    warnings: tuple[str, ...] = ()


def read_raster(path: Path) -> RasterImage:
    """The header of a file. Raises RasterReadError for what is no single image of grey values or RGB."""
    with opened(path) as image:
        kind = raster_format(path)
        if image.mode not in _MODES:
            raise RasterReadError(path, f"has pixels of the kind {image.mode}", "read are grey values and RGB")
        channels, has_alpha, bits = _MODES[image.mode]
        _check_size(path, image.size)
        _check_depth(path, kind, image, channels + has_alpha)
        if kind == "TIFF":
            _check_byte_order(path, image)
        frames = getattr(image, "n_frames", 1)
        is_multi_picture = image.format == "MPO"
        if frames > 1 and not is_multi_picture:
            raise RasterReadError(path, f"holds {frames} images, one was asked for", "write each into a file")
        warning = (f"holds {frames} pictures, the first is read",) if frames > 1 else ()
        # of a TIFF file Pillow exchanges the sizes itself
        turned = kind != "TIFF" and image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        shape = (image.size[1], image.size[0]) if turned else image.size
        return RasterImage(path, kind, shape, channels, bits, warning)


@contextmanager
def opened(path: Path, content: io.BytesIO | None = None) -> Iterator[Image.Image]:
    """The file in Pillow, or other `content` in its place.

    Whatever is raised in the block or by Pillow becomes a RasterReadError with a reason. Pillow's texts are not passed
    on: they may quote what stands in the file.
    """
    lenient, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        with warnings.catch_warnings():
            # damage that Pillow reads on after: it is looked for in `wholeness`, large images in `_check_size`
            warnings.simplefilter("ignore")
            with Image.open(path if content is None else content, formats=["PNG", "JPEG", "TIFF"]) as image:
                yield image
    except RasterReadError:
        raise
    except Image.DecompressionBombError as error:
        raise RasterReadError(path, f"declares more than {MAX_PIXELS} pixels") from error
    except UnidentifiedImageError as error:
        reason = f"a {raster_format(path)} file whose header is damaged or of an unknown kind"
        raise RasterReadError(path, reason) from error
    # of damaged files Pillow raises what its parts raise: OSError, SyntaxError, ValueError, KeyError, struct.error ...
    except Exception as error:
        raise_machine_error(error)
        if isinstance(error, OSError) and error.errno is not None:
            raise RasterReadError(path, f"cannot be read ({type(error).__name__})") from error
        reason = f"a {raster_format(path)} file that is damaged or of an unknown kind ({type(error).__name__})"
        raise RasterReadError(path, reason) from error
    finally:
        # a host program may want halves of images
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient


def _check_size(path: Path, size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise RasterReadError(path, f"declares {size[0]} x {size[1]} pixels, more than {MAX_PIXELS}")


def _check_depth(path: Path, kind: str, image: Image.Image, samples: int) -> None:
    """Refuse more than 8 bits in colour or with transparency, of which Pillow would drop the lower ones."""
    bits = _stored_bits(path, kind, image)
    if bits > 8 and samples > 1:
        advice = "write it as grey values of 16 bits, or in 8 bits"
        raise RasterReadError(path, f"has {bits} bits in each of {samples} channels", advice)


def _check_byte_order(path: Path, image: Image.Image) -> None:
    """Refuse what Pillow (13.0) reads with its bytes exchanged: libtiff hands them over in the machine's order."""
    is_compressed = image.tag_v2.get(_COMPRESSION, 1) != 1
    if is_compressed and image.mode in ("I", "F") and image.tag_v2.prefix == b"MM":
        advice = "write it with the low byte first, or without compression"
        raise RasterReadError(path, "compressed signed or floating-point numbers with the high byte first", advice)


def _stored_bits(path: Path, kind: str, image: Image.Image) -> int:
    if kind == "PNG":
        # IHDR: width, height, bit depth (PNG specification, section 11.2.1)
        with path.open("rb") as stream:
            return struct.unpack(">8xL4sLLB", stream.read(25))[-1]
    if kind == "TIFF":
        value = image.tag_v2.get(_BITS_PER_SAMPLE, 1)
        return max(value) if isinstance(value, tuple) else int(value)
    return 8


def is_min_white(image: Image.Image) -> bool:
    """Whether a TIFF file stores white as 0."""
    return image.tag_v2.get(_PHOTOMETRIC) == _MIN_IS_WHITE
