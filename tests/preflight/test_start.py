"""The start of a training: what could not end well is refused, what will be trained is logged."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from seqnorm_monai.data import LoadRadiographd
from seqnorm_monai.data.machine_errors import MachineError
from seqnorm_monai.preflight import check_start
from seqnorm_monai.preflight.disk import cache_bytes, item_bytes, megabytes, require_room, training_bytes
from seqnorm_monai.preflight.images import survey
from seqnorm_monai.preflight.labels import count_labels, label_findings
from tests.makers.bundles import CHEST

Usage = namedtuple("Usage", "total used free")


def items(*labels: tuple[int, ...]) -> list[dict[str, Any]]:
    """An item for each row of labels, two images a patient."""
    return [{"label": np.array(row, np.float32), "patient": f"p{n // 2}"} for n, row in enumerate(labels)]


def start(folder: Path, **changes: object) -> None:
    arguments: dict[str, Any] = {
        "training": items((1, 0), (0, 1), (1, 1)),
        "validation": items((1, 0), (0, 0)),
        "class_names": ["Mass", "Gout"],
        "network": nn.Linear(1000, 1000),
        "output_dir": str(folder / "out"),
        "ckpt_dir": str(folder / "models"),
        "cache_dir": None,
        "description": {"image_size": 64, "spatial_dims": 2, "in_channels": 1},
        "max_epochs": 7,
        "val_interval": 1,
        "batch_size": 2,
    }
    check_start(**{**arguments, **changes})


def test_summary_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        start(tmp_path)
    assert "training: 3 images of 2 patients; positive: Mass 2, Gout 2" in caplog.text
    assert "validation: 2 images of 1 patients; positive: Mass 1, Gout 0" in caplog.text
    assert "1.00 million parameters, 7 epochs of 2 steps" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_labels_of_a_host_are_left_to_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        start(tmp_path, training=[{"image": "a", "label": "b"}], validation=[])
    assert "positive" not in caplog.text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"val_interval": 8}, "argument val_interval is 8 and max_epochs 7: no epoch would be validated"),
        ({"max_epochs": 0}, "argument max_epochs must be a whole number of at least 1; got 0"),
        ({"batch_size": 2.5}, "argument batch_size must be a whole number"),
        ({"val_interval": "x"}, "argument val_interval must be a whole number"),
    ],
)
def test_numbers_that_end_in_no_model_are_refused(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        start(tmp_path, **changes)


def test_too_little_disk_is_refused_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, model = training_bytes(nn.Linear(1000, 1000))
    assert checkpoint > 6 * 4 * 10**6
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, checkpoint + model - 1))
    with pytest.raises(MachineError, match=r"out and .*models: the disk has \d+ MB left, and the training needs"):
        start(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, checkpoint + model))
    start(tmp_path)
    with pytest.raises(MachineError, match="cache: the disk has"):
        start(tmp_path, cache_dir=str(tmp_path / "cache"))


def test_one_folder_for_checkpoint_and_model_needs_room_for_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, model = training_bytes(nn.Linear(1000, 1000))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, checkpoint + model - 1))
    with pytest.raises(MachineError):
        start(tmp_path, ckpt_dir=str(tmp_path / "out"))


def test_room_is_counted_on_each_disk(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    require_room({str(tmp_path / "a" / "b"): free // 3, str(tmp_path / "c"): free // 3})
    with pytest.raises(MachineError, match=r"a/b and .*c: the disk has"):
        require_room({str(tmp_path / "a" / "b"): 2 * free // 3, str(tmp_path / "c"): 2 * free // 3})


def test_cached_images_count_what_is_there(tmp_path: Path) -> None:
    volume = {"image_size": [4, 5, 6], "spatial_dims": 3, "in_channels": 2}
    assert item_bytes(volume) == 4 * 2 * 120
    assert cache_bytes(volume, 10, str(tmp_path / "none")) == 9600
    (tmp_path / "1.pt").write_bytes(b"x" * 1000)
    assert cache_bytes(volume, 10, str(tmp_path)) == 8600
    assert cache_bytes(volume, 1, str(tmp_path)) == 0
    assert cache_bytes(volume, 10, None) == 0


@pytest.mark.parametrize(("count", "text"), [(0, "0 MB"), (52e6, "52 MB"), (999e6, "999 MB"), (25.3e9, "25.3 GB")])
def test_sizes_are_said_as_people_read_them(count: float, text: str) -> None:
    assert megabytes(count) == text


def test_classes_that_a_split_cannot_judge() -> None:
    few = count_labels("test", items(*[(1, 0, 1)] * 9, *[(0, 0, 1)] * 30), ["a", "b", "c"])
    found = label_findings([few])
    assert [finding.is_problem for finding in found] == [False, False]
    assert "no positive or no negative image of b, c" in found[0].text
    assert "fewer than 10 positive or negative images of a (9 positive)" in found[1].text
    none = count_labels("training", items((1, 0), (1, 0)), ["a", "b"])
    assert [finding.is_problem for finding in label_findings([none])] == [True]
    enough = count_labels("training", items(*[(1, 0)] * 10, *[(0, 1)] * 10), ["a", "b"])
    assert label_findings([enough]) == []


def test_both_sides_of_an_image_are_no_copies(tmp_path: Path) -> None:
    sample = sorted((CHEST / "sample_data/images").iterdir())
    items = [{"image": str(sample[0]), "side": side} for side in ("left", "right")]
    assert survey(items, [LoadRadiographd("image")], num_kept=1).copies == []
    shutil.copy(sample[0], tmp_path / "copy.dcm")
    found = survey([*items, {"image": str(tmp_path / "copy.dcm")}], [LoadRadiographd("image")], num_kept=1)
    assert found.copies == [[str(sample[0]), str(tmp_path / "copy.dcm")]]
