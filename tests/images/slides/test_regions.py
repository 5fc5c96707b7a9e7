"""Images that are read by regions: the right pixels, and no file that stays open."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from seqnorm_monai.images.slides.regions import ArrayImage, CroppedImage, TiffImage, open_image, opened
from seqnorm_monai.networks import SeqNormViT
from seqnorm_monai.streaming import stream_backward, stream_forward


def test_pages_of_a_private_map_are_kept(tmp_path: Path) -> None:
    """To give them back would lose what was written to them."""
    np.save(tmp_path / "image.npy", np.zeros((8, 8), np.uint8))
    private = np.load(tmp_path / "image.npy", mmap_mode="c")
    private[:] = 7
    image = open_image(private)
    assert (image.read(0, 0, 4, 4) == 7).all() and (image.read(0, 0, 8, 8) == 7).all()


@pytest.mark.parametrize("channels", [(), (3,)])
def test_tiled_tiff(tmp_path: Path, channels: tuple[int, ...]) -> None:
    tifffile = pytest.importorskip("tifffile")
    pixels = np.random.default_rng(3).integers(0, 256, (83, 101, *channels), dtype=np.uint8)
    photometric = "rgb" if channels else "minisblack"
    tifffile.imwrite(tmp_path / "slide.tif", pixels, tile=(32, 16), photometric=photometric, compression="zlib")
    image = open_image(tmp_path / "slide.tif")
    assert image.shape == pixels.shape
    for row, column, height, width in ((0, 0, 83, 101), (31, 15, 2, 2), (70, 90, 13, 11), (5, 3, 1, 64)):
        expected = pixels[row : row + height, column : column + width]
        assert np.array_equal(image.read(row, column, height, width), expected)
    image.close()
    tifffile.imwrite(tmp_path / "strips.tif", pixels, photometric=photometric)
    with pytest.raises(ValueError, match="must be tiled"):
        open_image(tmp_path / "strips.tif")


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """No file stays open past the block, and none was left to the garbage collector, which would warn."""
    gc.collect()
    gc.disable()
    try:
        before = len(os.listdir("/proc/self/fd"))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ResourceWarning)
            yield
            after = len(os.listdir("/proc/self/fd"))
            gc.collect()
        assert after == before
        assert [str(warning.message) for warning in caught] == []
    finally:
        gc.enable()


@pytest.fixture
def tiff(tmp_path: Path) -> Path:
    """37 x 53 pixels of float32 in tiles of 16 x 16."""
    tifffile = pytest.importorskip("tifffile")
    pixels = np.random.default_rng(5).random((37, 53), dtype=np.float32)
    tifffile.imwrite(tmp_path / "slide.tif", pixels, tile=(16, 16))
    np.save(tmp_path / "slide.npy", pixels)
    return tmp_path / "slide.tif"


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="open files are counted in /proc")


@linux
def test_images_close_with_their_block(tiff: Path) -> None:
    with no_descriptor_left():
        for _ in range(5):
            for path in (tiff, tiff.with_suffix(".npy")):
                with open_image(path) as image:
                    assert image.read(3, 5, 7, 11).shape == (7, 11)
                with CroppedImage(path, (4, 8)) as image:
                    assert image.shape == (36, 48)
                    assert image.read(3, 5, 7, 11).shape == (7, 11)
                image.close()


@linux
def test_images_that_are_refused_close_their_file(tiff: Path) -> None:
    with no_descriptor_left():
        for _ in range(5):
            with pytest.raises(ValueError, match="level must be 0 to 0"):
                TiffImage(tiff, level=1)
            with pytest.raises(ZeroDivisionError):
                CroppedImage(tiff, (4, 0))
            with (
                mock.patch.object(TiffImage, "_tiled_page", side_effect=KeyboardInterrupt),
                pytest.raises(KeyboardInterrupt),
            ):
                TiffImage(tiff)


def _forward(net: SeqNormViT, image: object, **options: object) -> object:
    return stream_forward(net, image, progress=False, **options)


def _backward(net: SeqNormViT, image: object, **options: object) -> object:
    return stream_backward(net, image, lambda logits: logits.sum(), progress=False, **options)


@linux
@pytest.mark.parametrize("stream", [_forward, _backward])
def test_streaming_closes_what_it_opened(tiff: Path, stream: Callable[..., object]) -> None:
    """Over several runs, from a path; what the caller opened stays open."""
    net = SeqNormViT(1, 4, 1, 2, hidden_size=4, mlp_dim=8, num_layers=2, num_heads=1).eval()
    stream(net, np.zeros((2, 2), np.float32))  # libraries open files of their own with the first run
    with no_descriptor_left():
        for _ in range(3):
            for path in (tiff, str(tiff), tiff.with_suffix(".npy")):
                stream(net, path)
            with CroppedImage(tiff, (1, 1)) as cropped, open_image(tiff) as image:
                stream(net, cropped)
                stream(net, image)
                assert cropped.read(0, 0, 2, 3).shape == image.read(0, 0, 2, 3).shape == (2, 3)


@linux
@pytest.mark.parametrize("stream", [_forward, _backward])
def test_streaming_closes_what_it_opened_when_it_fails(tiff: Path, stream: Callable[..., object]) -> None:
    net = SeqNormViT(1, 4, 2, 2, hidden_size=4, mlp_dim=8, num_layers=2, num_heads=1).eval()
    one = SeqNormViT(1, 4, 1, 2, hidden_size=4, mlp_dim=8, num_layers=2, num_heads=1).eval()

    def fail(tile: object) -> object:
        raise KeyboardInterrupt

    with no_descriptor_left():
        for _ in range(3):
            with pytest.raises(ValueError, match="multiple of the patch"):
                stream(net, tiff)
            with pytest.raises(KeyboardInterrupt):
                stream(one, tiff, prepare=fail)


def test_opened_leaves_the_array_of_the_caller(tiff: Path) -> None:
    pixels = np.load(tiff.with_suffix(".npy"), mmap_mode="r")
    with opened(pixels) as image:
        assert np.array_equal(image.read(3, 5, 7, 11), pixels[3:10, 5:16])
    assert pixels[36, 52] == np.load(tiff.with_suffix(".npy"))[36, 52]


@pytest.mark.parametrize("kind", [open_image, lambda path: CroppedImage(path, (1, 1)), TiffImage, ArrayImage])
def test_a_closed_image_says_so(tiff: Path, kind: Callable[[object], ArrayImage]) -> None:
    image = kind(np.zeros((3, 5)) if kind is ArrayImage else tiff)
    image.close()
    with pytest.raises(ValueError, match="the image is closed"):
        image.read(0, 0, 1, 1)
