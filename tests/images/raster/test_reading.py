"""PNG, JPEG and TIFF: every kind of pixel as it is stored, turned as the file asks for, or refused by name."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from seqnorm_monai.data import LoadRadiograph, LoadStudy, load_image
from seqnorm_monai.images.errors import ImageReadError
from tests.makers.raster_files import SHAPE, expected, save, values


def radiograph(path: Path) -> np.ndarray:
    return LoadRadiograph()(path).numpy()


def refused(path: Path, *, radiographs: bool = False) -> str:
    with pytest.raises(ImageReadError) as error:
        (LoadRadiograph() if radiographs else LoadStudy())(path)
    assert str(error.value).startswith(f"{path}: ")
    return error.value.reason


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_values_are_exact(tmp_path: Path, dtype: type[np.generic], suffix: str) -> None:
    array = values(dtype)
    path = save(array, tmp_path / f"a.{suffix}")
    image = load_image(path)
    assert np.array_equal(image.numpy(), expected(array))
    assert np.array_equal(radiograph(path), expected(array))
    assert np.array_equal(image.affine.numpy(), np.diag([-1, -1, 1, 1]))
    assert not image.meta["has_geometry"]
    assert image.meta["spacing_source"] == ""


@pytest.mark.parametrize("dtype", [">u2", "<u2", "<i2", ">i2", "<i4", "<f4", ">f4"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_tiff_of_either_byte_order_is_exact(tmp_path: Path, dtype: str, compression: str | None) -> None:
    array = values("int16").astype(np.float64) if "f" in dtype or "i" in dtype else values("uint16")
    array = array.astype(dtype)
    order = ">" if dtype[0] == ">" else "<"
    tifffile.imwrite(tmp_path / "a.tif", array, byteorder=order, compression=compression)
    if compression and dtype in (">i2", ">f4"):
        assert "with the high byte first" in refused(tmp_path / "a.tif")
        return
    assert np.array_equal(load_image(tmp_path / "a.tif").numpy(), expected(array))


def test_big_tiff_in_tiles(tmp_path: Path) -> None:
    array = np.random.default_rng(3).integers(0, 65536, (70, 45), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", array, bigtiff=True, tile=(16, 16))
    assert np.array_equal(load_image(tmp_path / "a.tif").numpy(), expected(array))


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_tiff_that_stores_white_as_zero_is_shown_white(tmp_path: Path, dtype: type[np.generic], white: int) -> None:
    array = values(dtype)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="miniswhite")
    assert np.array_equal(load_image(tmp_path / "a.tif").numpy(), white - expected(array))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_keep_their_order(tmp_path: Path, bits: int) -> None:
    """Pillow spreads them over a byte; a mask of one bit is no radiograph."""
    array = (values() >> (8 - bits)).astype(np.uint8)
    image = Image.fromarray(array * (255 // (2**bits - 1)))
    image.convert("1" if bits == 1 else "L").save(tmp_path / "a.png", bits=bits)
    found = load_image(tmp_path / "a.png").numpy()
    order = np.unique(found, return_inverse=True)[1].reshape(found.shape)
    assert np.array_equal(order, expected(np.unique(array, return_inverse=True)[1].reshape(array.shape)))
    if bits == 1:
        assert "a mask" in refused(tmp_path / "a.png", radiographs=True)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_in_other_clothes_is_one_channel_for_radiographs(tmp_path: Path, mode: str) -> None:
    array = values()
    path = save(array, tmp_path / "a.png", mode)
    assert np.array_equal(radiograph(path), expected(array))
    channels = 1 if mode == "LA" else 3
    assert np.array_equal(load_image(path).numpy(), np.repeat(expected(array), channels, axis=0))


def test_grey_jpeg_in_rgb_is_one_channel(tmp_path: Path) -> None:
    array = np.asarray(Image.fromarray(values()).resize((64, 48), Image.Resampling.BICUBIC))
    one, three = save(array, tmp_path / "a.jpg", quality=90), save(array, tmp_path / "b.jpg", "RGB", quality=90)
    with Image.open(one) as image:
        assert np.array_equal(radiograph(one), expected(np.asarray(image)))
    assert radiograph(three).shape == (1, 64, 48)
    assert np.abs(radiograph(three) - radiograph(one)).max() <= 2


def test_colour_is_read_as_rgb_and_is_no_radiograph(tmp_path: Path) -> None:
    array = np.stack([values(seed=seed) for seed in range(3)], axis=-1)
    path = save(array, tmp_path / "a.png")
    assert np.array_equal(load_image(path).numpy(), expected(array))
    assert refused(path, radiographs=True) == "a colour image (3 channels), no radiograph"


def test_one_level_of_colour_is_colour_but_in_jpeg(tmp_path: Path) -> None:
    array = np.repeat(values()[..., None] // 2, 3, axis=-1)
    array[4, 3, 1] += 1
    assert "a colour image" in refused(save(array, tmp_path / "a.png"), radiographs=True)


# what turns stored pixels upright (EXIF 2.32 section 4.6.4: where the first row and the first column of the scene are)
TURNS = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).T,
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "lzw", "big"])
def test_turned_as_the_file_asks_for(tmp_path: Path, suffix: str, orientation: int) -> None:
    """TIFF too, where Pillow's own turn gives other pixels."""
    array = np.kron(values(), np.ones((8, 8), np.uint8))
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"a.{suffix}"
    if suffix == "big":
        tifffile.imwrite(path, array, bigtiff=True, extratags=[(274, "H", 1, orientation, True)])
    elif suffix == "lzw":
        save(array, path, exif=exif, format="TIFF", compression="tiff_lzw")
    else:
        save(array, path, exif=exif)
    stored = array
    if suffix == "jpg":
        save(array, tmp_path / "plain.jpg")
        with Image.open(tmp_path / "plain.jpg") as image:
            stored = np.asarray(image)
    found = load_image(path).numpy()
    assert np.array_equal(found, expected(TURNS[orientation](stored)))
    assert found.shape[1:] == ((56, 104) if orientation < 5 else (104, 56))


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda path: save(np.zeros((*SHAPE, 3), np.uint8), path, "CMYK"), "pixels of the kind CMYK"),
        (lambda path: tifffile.imwrite(path, np.zeros((4, *SHAPE), np.uint8), photometric="minisblack"), "4 images"),
        (lambda path: tifffile.imwrite(path, np.zeros((*SHAPE, 3), np.uint16), photometric="rgb"), "16 bits in each"),
        (lambda path: tifffile.imwrite(path, values("int16"), photometric="miniswhite"), "a TIFF file"),
    ],
    ids=["cmyk", "pages", "16 bit colour", "signed"],
)
def test_other_tiffs_are_refused_by_name(tmp_path: Path, write: object, says: str) -> None:
    write(tmp_path / "a.tif")
    assert says in refused(tmp_path / "a.tif")


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", zlib.crc32(kind + content))


def png(colour: int, depth: int, *, size: tuple[int, int] = SHAPE, rows: bytes = b"") -> bytes:
    """A PNG file by its specification; Pillow writes no colour of 16 bits."""
    header = struct.pack(">LLBBBBB", size[1], size[0], depth, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


# Pillow takes grey with transparency for four channels
@pytest.mark.parametrize(("colour", "channels", "named"), [(2, 3, 3), (4, 2, 4), (6, 4, 4)])
def test_png_of_16_bits_in_several_channels_is_refused_not_rounded(
    tmp_path: Path, colour: int, channels: int, named: int
) -> None:
    rows = b"".join(b"\0" + bytes(2 * channels * SHAPE[1]) for _ in range(SHAPE[0]))
    (tmp_path / "a.png").write_bytes(png(colour, 16, rows=rows))
    assert refused(tmp_path / "a.png").startswith(f"has 16 bits in each of {named} channels")


def test_transparency_is_refused_where_it_hides_something(tmp_path: Path) -> None:
    array = np.stack([values(), np.full(SHAPE, 255, np.uint8)], axis=-1)
    Image.fromarray(array, "LA").save(tmp_path / "a.png")
    assert np.array_equal(radiograph(tmp_path / "a.png"), expected(array[..., 0]))
    array[0, 0, 1] = 254
    Image.fromarray(array, "LA").save(tmp_path / "a.png")
    assert refused(tmp_path / "a.png") == "is transparent in part"


def test_animated_png_is_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(values(seed=seed)) for seed in range(3)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    assert refused(tmp_path / "a.png").startswith("holds 3 images, one was asked for")


def test_bombs_are_refused_by_their_header(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(0, 8, size=(30_000, 30_000)))
    assert "pixels" in refused(tmp_path / "a.png")
    # more than Pillow warns of, and allowed
    (tmp_path / "b.png").write_bytes(png(0, 8, size=(10_000, 10_000)))
    assert "pixels" not in refused(tmp_path / "b.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_cut_off_files_are_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    array = np.random.default_rng(0).integers(0, 255, (90, 80), dtype=np.uint8)
    path = save(array, tmp_path / f"a.{suffix}")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    reason = refused(path)
    assert "cut off" in reason or "damaged" in reason or "not a DICOM" in reason, reason


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_tail_of_zeros_is_a_file_that_was_cut_off(tmp_path: Path, suffix: str) -> None:
    """As a broken download leaves it, with the size of the whole."""
    array = np.random.default_rng(0).integers(0, 255, (90, 80), dtype=np.uint8)
    path = save(array, tmp_path / f"a.{suffix}")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    reason = refused(path)
    assert "cut off" in reason or "damaged" in reason


def test_a_flipped_bit_in_a_png_is_found(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, (90, 80), dtype=np.uint8)
    path = save(array, tmp_path / "a.png")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "damaged" in refused(path)


@pytest.mark.parametrize("tiled", [False, True], ids=["strips", "tiles"])
def test_missing_parts_of_a_tiff_are_found(tmp_path: Path, tiled: bool) -> None:
    array = np.random.default_rng(0).integers(0, 255, (96, 80), dtype=np.uint8)
    options = {"tile": (32, 32)} if tiled else {"rowsperstrip": 16}
    tifffile.imwrite(tmp_path / "a.tif", array, **options)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        places = file.pages[0].tags["TileOffsets" if tiled else "StripOffsets"]
        at, size = places.valueoffset, places.dtype.value
    content = bytearray((tmp_path / "a.tif").read_bytes())
    width = {3: 2, 4: 4, 16: 8}[size]
    content[at + width : at + 2 * width] = bytes(width)
    (tmp_path / "a.tif").write_bytes(content)
    assert refused(tmp_path / "a.tif") == f"is damaged: a {'tile' if tiled else 'strip'} is missing"


def test_thumbnail_marker_is_not_the_end_of_the_image(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, (90, 80), dtype=np.uint8)
    thumbnail = io.BytesIO()
    Image.fromarray(array[:20, :20]).save(thumbnail, "JPEG")
    path = tmp_path / "a.jpg"
    Image.fromarray(array).save(path, comment=thumbnail.getvalue())
    whole = path.read_bytes()
    assert radiograph(path).shape == (1, 80, 90)
    path.write_bytes(whole[: len(whole) - 600] + bytes(600))
    assert refused(path) == "is cut off: its end marker is missing"


@pytest.mark.parametrize("name", ["a.dcm", "picture", "a.jpg", "a.txt"])
def test_the_content_tells_the_format_not_the_name(tmp_path: Path, name: str) -> None:
    array = values()
    save(array, tmp_path / "x.png").rename(tmp_path / name)
    assert np.array_equal(load_image(tmp_path / name).numpy(), expected(array))


def test_a_number_of_dots_per_inch_is_no_spacing(tmp_path: Path) -> None:
    path = save(values(), tmp_path / "a.png", dpi=(300, 300))
    assert np.array_equal(load_image(path).affine.numpy(), np.diag([-1, -1, 1, 1]))


def test_host_settings_of_pillow_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", None)
    test_cut_off_files_are_refused(tmp_path, "png", 0.6)
    test_bombs_are_refused_by_their_header(tmp_path)


def test_lack_of_memory_is_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(values(), tmp_path / "a.png")

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("seqnorm_monai.images.raster.decode._pixels", fail)
    with pytest.raises(MemoryError):
        load_image(path)
