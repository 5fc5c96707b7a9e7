"""Files of radiology after public reports: read as they are meant, or refused with the true reason."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from seqnorm_monai.commands import main
from seqnorm_monai.data import LoadRadiographd, LoadStudyd, find_images, load_image
from seqnorm_monai.images.errors import ImageReadError
from seqnorm_monai.images.slides.regions import TiffImage
from seqnorm_monai.images.slides.regions import open_image as open_slide
from tests.cases.reported import make, script


def radiograph(path: Path) -> np.ndarray:
    return LoadRadiographd("image")({"image": str(path)})["image"].numpy()


def listing(folder: Path, tmp_path: Path, *options: str) -> list[dict[str, object]]:
    """The rows of ``seqnorm list``."""
    assert main(["list", str(folder), "--json", str(tmp_path / "rows.json"), *options]) == 0
    return json.loads((tmp_path / "rows.json").read_text())["rows"]


@pytest.mark.parametrize("name", ["head", "chest", "word"])
def test_uid_hashed_ct(name: str, tmp_path: Path) -> None:
    folder = make("uid_hashed_ct", tmp_path) / name
    assert LoadStudyd("image")({"image": str(folder)})["image"].shape == (1, 16, 20, 6)
    (row,) = listing(folder, tmp_path)
    assert (row["status"], row["shape"], row["files"]) == ("used", [16, 20, 6], 6)
    (item,) = find_images(folder)
    assert LoadStudyd("image")(item)["image"].shape == (1, 16, 20, 6)


def test_frames_zero(tmp_path: Path) -> None:
    folder = make("frames_zero", tmp_path)
    assert np.array_equal(radiograph(folder / "1.dcm")[0].T, script().picture(1))
    (item,) = find_images(folder)
    assert LoadRadiographd("image")(item)["image"].shape == (1, 48, 64)


def test_radiographs_with_positions(tmp_path: Path) -> None:
    folder = make("radiographs_with_positions", tmp_path)
    items = find_images(folder)
    assert len(items) == 8
    assert not [item for item in items if "unreadable" in item]
    assert {LoadRadiographd("image")(item)["image"].shape for item in items} == {(1, 48, 64)}
    rows = listing(folder, tmp_path)
    assert {(row["status"], row["kind"], row["files"]) for row in rows} == {("used", "image", 1)}


def test_adc_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make("adc_only", tmp_path)
    with pytest.raises(ImageReadError, match=r"a derived map \(ADC\).*selections"):
        load_image(folder)
    (row,) = listing(folder, tmp_path)
    assert row["label"] == "ADC"


@pytest.mark.parametrize("name", ["ss", "us"])
def test_modality_lut_sign(name: str, tmp_path: Path) -> None:
    import pydicom

    path = make("modality_lut_sign", tmp_path) / f"{name}.dcm"
    stored = pydicom.dcmread(path)
    pixels = np.frombuffer(stored.PixelData, np.int16)[: stored.Rows * stored.Columns].reshape(stored.Rows, -1)
    assert np.array_equal(radiograph(path)[0].T, 16.0 * (pixels.astype(np.float32) + 2048))


def test_character_set_extension(tmp_path: Path) -> None:
    folder = make("character_set_extension", tmp_path)
    rows = listing(folder / "study", tmp_path, "--select", str(folder / "rules.json"))
    assert rows
    assert {row["status"] for row in rows} == {"used"}


@pytest.mark.parametrize("name", ["lossless", "lossy"])
def test_lossy_bits_stored(name: str, tmp_path: Path) -> None:
    path = make("lossy_bits_stored", tmp_path) / f"{name}.dcm"
    with pytest.raises(ImageReadError, match="BitsStored"):
        radiograph(path)


def test_overlay_in_high_bits(tmp_path: Path) -> None:
    folder = make("overlay_in_high_bits", tmp_path)
    assert np.array_equal(radiograph(folder / "marked.dcm"), radiograph(folder / "clean.dcm"))
    assert np.array_equal(radiograph(folder / "clean.dcm")[0].T, script().picture(1))


@pytest.mark.parametrize("name", ["fill", "odd"])
def test_jpeg_fill_bytes(name: str, tmp_path: Path) -> None:
    folder = make("jpeg_fill_bytes", tmp_path)
    assert np.array_equal(radiograph(folder / f"{name}.dcm"), radiograph(folder / "plain.dcm"))


@pytest.mark.filterwarnings("ignore:pixdim")
@pytest.mark.parametrize("name", ["plain", "qform"])
def test_nifti_2d_without_third_spacing(name: str, tmp_path: Path) -> None:
    path = make("nifti_2d_without_third_spacing", tmp_path) / f"{name}.nii"
    image = LoadStudyd("image")({"image": str(path)})["image"]
    assert image.shape == (1, 4, 5)
    assert np.allclose(image.pixdim[:2], [0.5, 0.7], rtol=1e-6, atol=0)
    assert np.array_equal(image.numpy()[0], np.asarray(nibabel.load(path).dataobj).squeeze())


def test_sparse_tiles(tmp_path: Path) -> None:
    path = make("sparse_tiles", tmp_path) / "slide.tif"
    with open_slide(path) as slide, pytest.raises(ValueError, match="tile 0, 0 holds no data"):
        slide.read(0, 0, 96, 128)
    with TiffImage(path, missing=255) as slide:
        values, counts = np.unique(slide.read(0, 0, 96, 128), return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == {240: 10 * 3072, 255: 2 * 3072}
