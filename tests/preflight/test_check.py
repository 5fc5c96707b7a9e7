"""``seqnorm check``: what a newcomer's folder would trip over is said before the training starts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from seqnorm_monai.commands import main
from tests.bundles.test_runs import SMALL
from tests.makers.bundles import CHEST, copy_bundle

OPTIONS = [word for name, value in SMALL.items() for word in (f"--{name.replace('__', '#')}", str(value))]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The chest bundle with a datalist of 24 images, three of four for training."""
    bundle = copy_bundle(CHEST, tmp_path)
    content = json.loads((bundle / "sample_data/datalist.json").read_text())
    few = {split: content[split][: 12 if split == "training" else 6] for split in ("training", "validation", "test")}
    (bundle / "sample_data/few.json").write_text(json.dumps({"class_names": ["Infiltration", "Pneumonia"], **few}))
    change(bundle, lambda items: None)
    return bundle


def change(bundle: Path, edit: Any) -> None:  # noqa: ANN401
    """Keep the two classes, and let `edit` change the splits."""
    path = bundle / "sample_data/few.json"
    content = json.loads(path.read_text())
    for split in ("training", "validation", "test"):
        for item in content[split]:
            item["label"] = [name for name in item["label"] if name in content["class_names"]]
    edit(content)
    path.write_text(json.dumps(content))


def check(bundle: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    datalist = ["--datalist", str(bundle / "sample_data/few.json")]
    code = main(["check", "--bundle", str(bundle), *datalist, *OPTIONS, "--batch_size", "4", *more])
    shown = capsys.readouterr()
    return code, shown.out + shown.err


def files(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if path.is_file()}


def test_report_of_a_good_folder(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(bundle)
    code, shown = check(bundle, capsys, "--json", str(tmp_path / "r.json"), "--image_size", "64")
    assert code == 0
    assert "training: 12 images of " in shown
    assert "sizes: 512 x 512 (24)" in shown
    assert "spacings in mm: unknown (24)" in shown
    assert "an epoch of 3 steps, from three real ones" in shown
    assert "for 30 epochs" in shown
    assert "half of the images are 512 pixels or longer, and the network sees 64" in shown
    assert shown.splitlines()[-1].startswith("0 problems, ")
    assert files(bundle) == before, "nothing is written"
    data = json.loads((tmp_path / "r.json").read_text())
    assert data["images"]["looked_at"] == 24
    assert data["images"]["sizes"] == [[512, 512]]
    assert data["resources"]["steps"] == 3
    assert 0 < data["resources"]["epoch_seconds"] < 60
    assert data["resources"]["step_memory"] > 10**7
    # float32 images of 64 x 64 pixels of the two splits
    assert data["resources"]["cached"] == 18 * 4 * 64 * 64


def test_files_that_cannot_be_read_are_named_with_their_reason(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((bundle / "sample_data/few.json").read_text())
    name = content["training"][0]["image"]
    path = bundle / "sample_data" / name
    path.write_bytes(path.read_bytes()[:2000])
    code, shown = check(bundle, capsys)
    assert code == 1
    assert f"PROBLEM: {path}: " in shown
    assert shown.splitlines()[-1].startswith("1 problem, ")


def test_one_image_under_two_names_is_found(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = bundle / "sample_data/images"

    def copy_over(content: dict[str, Any]) -> None:
        one, two = content["training"][0]["image"], content["test"][0]["image"]
        shutil.copy(bundle / "sample_data" / one, folder / "copy.dcm")
        content["test"][0]["image"] = "images/copy.dcm"
        assert one != two

    change(bundle, copy_over)
    code, shown = check(bundle, capsys)
    assert code == 1
    assert "one image under 2 names" in shown
    assert "in the splits test and training; keep one of them" in shown


def test_leaks_and_missing_files_are_named_before_any_image_is_read(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def leak(content: dict[str, Any]) -> None:
        content["test"][0]["patient"] = content["training"][0]["patient"]
        content["validation"][0]["image"] = "images/none.dcm"

    change(bundle, leak)
    code, shown = check(bundle, capsys)
    assert code == 1
    assert "stands in the splits training and test" in shown
    assert "none.dcm does not exist" in shown
    assert "images: " not in shown


def test_classes_without_cases_are_named(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def without(content: dict[str, Any]) -> None:
        for item in content["validation"]:
            item["label"] = []

    change(bundle, without)
    code, shown = check(bundle, capsys)
    assert code == 1
    assert "split validation: no positive or no negative image of Infiltration, Pneumonia" in shown


def test_an_empty_split_is_named(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(bundle, lambda content: content.update(test=[]))
    code, shown = check(bundle, capsys)
    assert code == 0
    assert "advice: split test is empty" in shown


def test_a_sample_of_the_images_is_enough_where_asked_for(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, shown = check(bundle, capsys, "--images", "5")
    assert code == 0
    assert "images: 5 looked at, 0 cannot be read" in shown


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--bundle", "nowhere"], "nowhere/configs/train.json: there is no such file"),
        (["--bundle", str(CHEST), "--datalist", "none.json"], "datalist none.json: cannot be opened"),
        (["--bundle", str(CHEST), "--imagesize", "64"], "train.json: has no entry imagesize"),
    ],
)
def test_what_cannot_be_checked_is_said(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *words]) == 2
    assert says in capsys.readouterr().err
