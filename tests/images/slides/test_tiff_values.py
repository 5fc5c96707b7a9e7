"""TIFF files whose samples are not what is shown, and whose tiles are not all there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seqnorm_monai.images.slides.regions import TiffImage, open_image

tifffile = pytest.importorskip("tifffile")
SAMPLES = np.random.default_rng(3).integers(0, 256, (83, 101), dtype=np.uint8)
REGIONS = [(0, 0, 83, 101), (31, 15, 2, 2), (70, 90, 13, 11)]


def check(path: Path, expected: np.ndarray) -> None:
    with open_image(path) as image:
        assert image.shape == expected.shape
        for row, column, height, width in REGIONS:
            pixels = image.read(row, column, height, width)
            assert pixels.dtype == expected.dtype
            np.testing.assert_array_equal(pixels, expected[row : row + height, column : column + width])


@pytest.mark.parametrize("scale", [1, 256, 257])
def test_palette(tmp_path: Path, scale: int) -> None:
    """Entries of 16 bits; some writers use the upper half of them, some the lower."""
    colours = np.random.default_rng(5).permuted(np.tile(np.arange(256), (3, 1)), axis=1)
    path = tmp_path / "slide.tif"
    colormap = (colours * scale).astype(np.uint16)
    tifffile.imwrite(path, SAMPLES, tile=(32, 16), photometric="palette", colormap=colormap)
    check(path, colours.T.astype(np.uint8)[SAMPLES])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_min_is_white(tmp_path: Path, dtype: type) -> None:
    samples = SAMPLES.astype(dtype) * (257 if dtype is np.uint16 else 1)
    tifffile.imwrite(tmp_path / "slide.tif", samples, tile=(32, 16), photometric="miniswhite", compression="zlib")
    check(tmp_path / "slide.tif", (np.iinfo(dtype).max - samples).astype(dtype))


@pytest.mark.parametrize(
    ("samples", "photometric", "words"),
    [
        (SAMPLES.astype(np.float32), "miniswhite", "shows 0 as white"),
        (SAMPLES.astype(np.int16), "miniswhite", "shows 0 as white"),
        (np.stack([SAMPLES] * 4, axis=-1), "separated", "the colours SEPARATED"),
        (np.stack([SAMPLES] * 3, axis=-1), "cielab", "the colours CIELAB"),
        (np.stack([SAMPLES] * 3, axis=-1), "ycbcr", "the colours YCBCR"),
    ],
)
def test_colours_that_are_not_read(tmp_path: Path, samples: np.ndarray, photometric: str, words: str) -> None:
    tifffile.imwrite(tmp_path / "slide.tif", samples, tile=(32, 16), photometric=photometric)
    with pytest.raises(ValueError, match=words):
        open_image(tmp_path / "slide.tif")


def sparse(path: Path, channels: tuple[int, ...] = (3,), **options: object) -> Path:
    """A slide of background 240 whose tiles 0 and 5 of 12 hold no data."""
    tile = np.full((32, 32, *channels), 240, np.uint8)
    tiles = (b"" if number in (0, 5) else tile.tobytes() for number in range(12))
    tifffile.imwrite(
        path, tiles, shape=(96, 128, *channels), dtype=np.uint8, tile=(32, 32),
        photometric="rgb" if channels else "minisblack", **options,
    )  # fmt: skip
    return path


@pytest.mark.parametrize("channels", [(), (3,)])
def test_missing_tiles_are_not_black_in_silence(tmp_path: Path, channels: tuple[int, ...]) -> None:
    path = sparse(tmp_path / "slide.tif", channels)
    with open_image(path) as image:
        assert (image.read(0, 32, 32, 96) == 240).all()
        for region in ((0, 0, 96, 128), (31, 31, 2, 2), (33, 33, 1, 1)):
            with pytest.raises(ValueError, match=r"slide\.tif: tile \d, \d holds no data.*missing=255"):
                image.read(*region)


@pytest.mark.parametrize("missing", [255, 0, 17])
def test_missing_tiles_hold_what_the_caller_says(tmp_path: Path, missing: int) -> None:
    expected = np.full((96, 128, 3), 240, np.uint8)
    expected[:32, :32] = expected[32:64, 32:64] = missing
    with TiffImage(sparse(tmp_path / "slide.tif"), missing=missing) as image:
        np.testing.assert_array_equal(image.read(0, 0, 96, 128), expected)


def test_missing_tiles_hold_what_the_file_says(tmp_path: Path) -> None:
    path = sparse(tmp_path / "slide.tif", (), extratags=[(42113, "s", 0, "231", True)])
    with open_image(path) as image:
        assert set(np.unique(image.read(0, 0, 96, 128))) == {231, 240}


def test_a_tile_that_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, SAMPLES, tile=(32, 16))
    path.write_bytes(path.read_bytes()[:-100])
    with open_image(path) as image, pytest.raises(ValueError, match="cut off within tile 2, 6"):
        image.read(0, 0, 83, 101)
