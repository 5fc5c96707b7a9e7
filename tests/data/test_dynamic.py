"""Dynamic studies as items and tensors: through a folder, an archive, a cache and a fault-tolerant data set."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Transform

import seqnorm_monai
from seqnorm_monai.data import CachedDataset, FaultTolerantDataset, LoadDynamicStudyd, find_dynamic_studies
from seqnorm_monai.images.dynamic import DynamicStudy
from seqnorm_monai.images.errors import ImageReadError
from tests.makers.dynamic_files import FORMS, SECONDS, a_series_each, nifti_files

CHANNELS = ["pre", "post_1", "sub_1"]


def test_each_file_is_part_of_an_item(tmp_path: Path) -> None:
    a_series_each(tmp_path / "study")
    (tmp_path / "labels.csv").write_text("study,patient\n")
    shutil.copy(next((tmp_path / "study").iterdir()), tmp_path / "copy.dcm")
    items = find_dynamic_studies(tmp_path)
    (study,) = [item for item in items if "unreadable" not in item]
    assert study["seconds"] == pytest.approx(SECONDS)
    assert study["clock"] == "AcquisitionTime"
    assert study["decided"] == "ContrastBolusAgent"
    files = [file for item in items for file in item["files"]]
    assert sorted(files) == sorted(str(path) for path in tmp_path.rglob("*") if path.is_file())
    reasons = {Path(item["path"]).name: item["unreadable"] for item in items if "unreadable" in item}
    assert reasons["labels.csv"] == "a table, no image"
    assert any("a copy of" in reason for reason in reasons.values())


@pytest.mark.parametrize("form", ["a series each", "enhanced, all in one", "NIfTI as ODELIA", "NIfTI as MAMA-MIA"])
def test_a_path_a_study_and_an_archive_give_the_same(form: str, tmp_path: Path) -> None:
    FORMS[form](tmp_path / "study")
    archive = shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "study")
    load = LoadDynamicStudyd("image", CHANNELS)
    one = load({"image": tmp_path / "study"})["image"]
    assert isinstance(one, MetaTensor)
    assert one.shape == (3, 5, 7, 4)
    assert one.dtype == torch.float32
    assert torch.equal(one[2], one[1] - one[0])
    for source in (tmp_path / "study", archive):
        (item,) = [item for item in find_dynamic_studies(source) if "unreadable" not in item]
        again = pickle.loads(pickle.dumps(item)) if source != archive else item
        other = load(again)["image"]
        assert torch.equal(other, one)
        assert np.array_equal(other.affine, one.affine)
    assert torch.equal(load({"image": archive})["image"], one)


def test_cached_on_disk(tmp_path: Path) -> None:
    a_series_each(tmp_path / "study")
    items = find_dynamic_studies(tmp_path / "study")
    load = [LoadDynamicStudyd("image", CHANNELS)]
    first = CachedDataset(items, load, cache_rate=0.0, cache_dir=tmp_path / "cache")[0]["image"]
    assert len(list((tmp_path / "cache").iterdir())) == 1
    again = CachedDataset(items, load, cache_rate=0.0, cache_dir=tmp_path / "cache")[0]["image"]
    assert torch.equal(first, again)
    assert len(list((tmp_path / "cache").iterdir())) == 1


class Half(Transform):
    """Two columns of the item's side."""

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        image = item["image"]
        return {**item, "image": image[:, :2] if item["side"] == "left" else image[:, -2:]}


def test_each_breast_has_a_cache_file_of_its_own(tmp_path: Path) -> None:
    a_series_each(tmp_path / "study")
    items = [{"image": str(tmp_path / "study"), "side": side} for side in ("left", "right")]
    steps = [LoadDynamicStudyd("image", CHANNELS), Half()]
    plain = [CachedDataset(items, steps, cache_rate=0.0)[place]["image"] for place in range(2)]
    assert not torch.equal(plain[0], plain[1])
    for _ in range(2):
        kept = CachedDataset(items, steps, cache_rate=0.0, cache_dir=tmp_path / "cache")
        assert all(torch.equal(kept[place]["image"], plain[place]) for place in range(2))
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_study_that_lacks_a_channel_is_a_rejection(tmp_path: Path) -> None:
    nifti_files(tmp_path / "a", ["pre", "post_1"])
    nifti_files(tmp_path / "b", ["pre", "post_1", "post_2"])
    items = find_dynamic_studies(tmp_path)
    data = FaultTolerantDataset(items, [LoadDynamicStudyd("image", ["pre", "post_2"])])
    assert data[0].reason == "has no post_2 for the channel post_2: pre, post_1"
    assert data[1]["image"].shape == (2, 5, 7, 4)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ([["pre", "post_1"], ["pre", "post_1"]], "holds several studies, one was asked for"),
        ([["pre"]], "post is missing: pre.nii.gz"),
        ([["T2"]], "no dynamic study: no volume at all"),
    ],
)
def test_a_path_that_is_not_one_study_is_refused(tmp_path: Path, names: list[list[str]], says: str) -> None:
    for number, own in enumerate(names):
        nifti_files(tmp_path / str(number), own)
    with pytest.raises(ImageReadError, match=says):
        LoadDynamicStudyd("image", CHANNELS)({"image": tmp_path})


def test_all_phases_are_scaled_by_two_numbers_of_pre(tmp_path: Path) -> None:
    a_series_each(tmp_path)
    plain = LoadDynamicStudyd("image", CHANNELS)({"image": tmp_path})["image"].numpy()
    low, high = np.percentile(plain[0], (10, 90))
    for channels in (CHANNELS, ["sub_1"], ["sub_1", "post_1"]):
        scaled = LoadDynamicStudyd("image", channels, percentiles=(10, 90))({"image": tmp_path})["image"].numpy()
        truth = {"pre": (plain[0] - low), "post_1": plain[1] - low, "sub_1": plain[2]}
        np.testing.assert_allclose(
            scaled, np.stack([truth[name] for name in channels]) / (high - low), rtol=1e-5, atol=1e-6
        )


def test_both_breasts_of_a_study_cost_one_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_series_each(tmp_path / "a")
    nifti_files(tmp_path / "b", ["pre", "post_1"])
    decoded = []
    read = DynamicStudy.read
    monkeypatch.setattr(DynamicStudy, "read", lambda study, *a, **k: decoded.append(study.path) or read(study, *a, **k))
    load = LoadDynamicStudyd("image", CHANNELS)
    left, right = (load({"image": tmp_path / "a", "side": side})["image"] for side in ("left", "right"))
    assert len(decoded) == 1
    left += 1
    assert torch.equal(left - 1, right), "what one item does to its tensor changes no other"
    load({"image": tmp_path / "b"})
    load({"image": tmp_path / "a"})
    assert len(decoded) == 3
    assert pickle.loads(pickle.dumps(load))._last is None


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="argument percentiles must be two rising numbers"):
        LoadDynamicStudyd("image", CHANNELS, percentiles=(99, 1))
    with pytest.raises(TypeError, match="argument channels must be a list of names"):
        LoadDynamicStudyd("image", "pre")
    with pytest.raises(KeyError, match="image"):
        LoadDynamicStudyd("image", CHANNELS)({})


def test_names_of_the_package() -> None:
    assert seqnorm_monai.LoadDynamicStudyd is LoadDynamicStudyd
    assert seqnorm_monai.find_dynamic_studies is find_dynamic_studies
