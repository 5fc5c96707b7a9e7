"""The loading transform inside MONAI: composed, collated, in worker processes, and when a file is bad."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Compose, RandAffined, Resized, ScaleIntensityRangePercentilesd, Spacingd
from pydicom.uid import ExplicitVRLittleEndian

from seqnorm_monai.data import LoadRadiograph, LoadRadiographd
from seqnorm_monai.images.dicom import OtherModalityError, RadiographHeader, write_radiograph
from seqnorm_monai.images.errors import ImageReadError, find_read_error

ROWS, COLUMNS = 43, 37
TEXTS = {
    "StudyInstanceUID": "1.2.3.13",
    "SeriesInstanceUID": "1.2.3.17",
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1",
    "Modality": "CR",
    "PhotometricInterpretation": "MONOCHROME1",
    "TransferSyntaxUID": ExplicitVRLittleEndian,
    "ViewPosition": "PA",
    "ImageLaterality": "",
}


def pixels_of(number: int) -> np.ndarray:
    return ((np.arange(ROWS * COLUMNS) * 7919 + 101 * number) % 4096).astype(np.uint16).reshape(ROWS, COLUMNS)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Four radiographs, the last one without spacing."""
    paths = []
    for number in range(4):
        header = RadiographHeader(
            patient_id=f"P{number}",
            study_uid="1.2.3.13",
            series_uid="1.2.3.17",
            sop_uid=f"1.2.3.19.{number + 1}",
            view_position="PA",
            patient_sex="",
            patient_age="",
            pixel_spacing=None if number == 3 else (0.143, 0.139),
        )
        paths.append(str(tmp_path / f"{number}.dcm"))
        write_radiograph(paths[-1], pixels_of(number), header, bits_stored=12, photometric_interpretation="MONOCHROME1")
    return paths


def test_array_version(files: list[str]) -> None:
    image = LoadRadiograph()(files[1])
    assert isinstance(image, MetaTensor)
    assert image.dtype == torch.float32
    np.testing.assert_array_equal(image.numpy(), pixels_of(1).T[None])
    # x along the columns; x and y of DICOM (LPS) against those of RAS
    expected = torch.diag(torch.tensor([-0.139, -0.143, 1, 1], dtype=torch.float64))
    torch.testing.assert_close(image.affine, expected, rtol=1e-12, atol=0)
    np.testing.assert_allclose(image.meta["original_affine"], expected, rtol=1e-12)
    assert image.meta["filename_or_obj"] == files[1]
    assert image.meta["SOPInstanceUID"] == "1.2.3.19.2"
    assert image.meta["spacing_source"] == "ImagerPixelSpacing"
    assert image.meta["original_channel_dim"] == 0
    assert list(image.meta["spatial_shape"]) == [COLUMNS, ROWS]
    assert {key: image.meta[key] for key in TEXTS} == TEXTS
    without = LoadRadiograph()(Path(files[3]))
    torch.testing.assert_close(without.affine, torch.diag(torch.tensor([-1, -1, 1, 1]).double()), rtol=0, atol=0)
    assert without.meta["spacing_source"] == ""
    assert without.meta["filename_or_obj"] == files[3]


def test_voi_and_modalities_are_passed_on(files: list[str]) -> None:
    image = LoadRadiograph(apply_voi=True)(files[0])
    np.testing.assert_allclose(image.numpy()[0], pixels_of(0).T / 4095, atol=1e-6)
    data = LoadRadiographd("image", apply_voi=True, modalities=["CR"])({"image": files[0], "label": 1})
    np.testing.assert_allclose(data["image"].numpy()[0], pixels_of(0).T / 4095, atol=1e-6)
    assert data["label"] == 1
    with pytest.raises(OtherModalityError, match="Modality CR, accepted are DX"):
        LoadRadiographd("image", modalities=["DX"])({"image": files[0]})


def test_input_is_not_changed_and_keys_are_checked(files: list[str]) -> None:
    data = {"image": files[0], "prior": files[1]}
    loaded = LoadRadiographd(["image", "prior"])(data)
    assert data == {"image": files[0], "prior": files[1]}
    np.testing.assert_array_equal(loaded["prior"].numpy()[0], pixels_of(1).T)
    with pytest.raises(KeyError, match="absent"):
        LoadRadiographd(["image", "absent"])(data)
    partial = LoadRadiographd(["image", "absent"], allow_missing_keys=True)(data)
    assert set(partial) == {"image", "prior"}


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match="modalities"):
        LoadRadiograph(modalities="CR")
    with pytest.raises(TypeError, match="needs a path or a StudyImage, got list"):
        LoadRadiograph()(["a.dcm"])


@pytest.mark.parametrize("workers", [0, 2])
def test_through_a_data_loader(files: list[str], workers: int) -> None:
    transform = Compose([LoadRadiographd("image")])
    items = [{"image": path, "label": number} for number, path in enumerate(files)]
    loader = DataLoader(Dataset(items, transform), batch_size=4, num_workers=workers)
    (batch,) = list(loader)
    assert batch["image"].shape == (4, 1, COLUMNS, ROWS)
    for number, item in enumerate(decollate_batch(batch)):
        image = item["image"]
        np.testing.assert_array_equal(image.numpy()[0], pixels_of(number).T)
        assert image.meta["filename_or_obj"] == files[number]
        assert image.meta["SOPInstanceUID"] == f"1.2.3.19.{number + 1}"
        assert image.meta["spacing_source"] == ("" if number == 3 else "ImagerPixelSpacing")
        assert {key: image.meta[key] for key in TEXTS} == TEXTS
        assert float(image.affine[0, 0]) == pytest.approx(-1.0 if number == 3 else -0.139)


def test_followed_by_the_usual_transforms(files: list[str]) -> None:
    transform = Compose(
        [
            LoadRadiographd("image"),
            ScaleIntensityRangePercentilesd("image", lower=0, upper=100, b_min=0.0, b_max=1.0, clip=True),
            Resized("image", spatial_size=(29, 31)),
            RandAffined("image", prob=1.0, rotate_range=0.1, translate_range=3.0, padding_mode="zeros"),
        ]
    )
    transform.set_random_state(7)
    batch = list_data_collate([transform({"image": path}) for path in files])
    assert batch["image"].shape == (4, 1, 29, 31)
    assert torch.isfinite(batch["image"]).all()
    assert 0.2 < float(batch["image"].mean()) < 0.8
    assert decollate_batch(batch)[2]["image"].meta["filename_or_obj"] == files[2]


def test_resampling_uses_the_spacing_of_rows_and_columns(files: list[str]) -> None:
    image = Compose([LoadRadiographd("image"), Spacingd("image", pixdim=(0.139, 0.286))])({"image": files[0]})["image"]
    assert image.shape[1:] == (COLUMNS, 22)


def test_bad_file_in_a_pipeline(tmp_path: Path, files: list[str]) -> None:
    bad = tmp_path / "bad.dcm"
    bad.write_text("this is text")
    transform = Compose([LoadRadiographd("image"), Resized("image", spatial_size=(29, 31))])
    with pytest.raises(RuntimeError, match="applying transform") as caught:
        transform({"image": str(bad)})
    error = find_read_error(caught.value)
    assert error.reason == "not a DICOM file: text"
    assert error.path == bad
    # From a worker process only the text arrives; it still names file and reason.
    loader = DataLoader(Dataset([{"image": str(bad)}], transform), num_workers=1)
    with pytest.raises(RuntimeError) as caught:
        list(loader)
    assert f"{bad}: not a DICOM file: text" in str(caught.value)
    assert isinstance(pickle.loads(pickle.dumps(error)), ImageReadError)


def test_transform_survives_pickling(files: list[str]) -> None:
    twin = pickle.loads(pickle.dumps(LoadRadiographd("image", apply_voi=True, modalities=["CR"])))
    np.testing.assert_allclose(twin({"image": files[0]})["image"].numpy()[0], pixels_of(0).T / 4095, atol=1e-6)
