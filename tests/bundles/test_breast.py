"""The breast MRI bundle as it is run: two rows a study, every file accounted for, and left stays left."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from seqnorm_monai.data import load_datalist
from tests.makers.bundles import ROOT, bundle_command, config, copy_bundle, run_command
from tests.makers.dynamic_files import write_phase

BREAST = ROOT / "bundles" / "breast_mri_classification"
SMALL = {"network_def__num_layers": 1, "network_def__hidden_size": 24, "network_def__mlp_dim": 24, "max_epochs": 2}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def keep(bundle: Path, count: int) -> None:
    """The first studies of every split."""
    path = bundle / "sample_data/datalist.json"
    content = json.loads(path.read_text())
    for split in ("training", "validation", "test"):
        names = list(dict.fromkeys(item["image"] for item in content[split]))[:count]
        content[split] = [item for item in content[split] if item["image"] in names]
    path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """After two epochs on some studies."""
    bundle = copy_bundle(BREAST, tmp_path_factory.mktemp("breast"))
    keep(bundle, 8)
    run_command(bundle_command("training", "train", accumulation_steps=3, **SMALL), bundle)
    return bundle


@pytest.mark.slow
def test_gathered_gradients_step_as_often_as_is_said(trained: Path) -> None:
    history = table(trained / "output/training/history.csv")
    assert len(history) == 2
    reached = torch.load(trained / "output/training/checkpoint.pt", weights_only=True)
    # 16 breasts in batches of 8: two iterations, one step
    assert reached["lr_scheduler"]["last_epoch"] == 2


@pytest.mark.slow
def test_a_row_for_each_breast_and_each_file(trained: Path, tmp_path: Path) -> None:
    """Both ways of storage, a sagittal study, a refused one, a scanner's subtraction, and what lies about."""
    folder, sample = tmp_path / "in", trained / "sample_data"
    for name in ("Breast_MRI_001", "Breast_MRI_002", "Breast_MRI_004", "Breast_MRI_041", "Breast_MRI_101"):
        shutil.copytree(sample / name, folder / name)
    write_phase(folder / "alone", 0, {})
    (folder / "notes.txt").write_text("nothing")
    run_command(bundle_command("inference", "inference", dataset_dir=folder, output_dir=tmp_path / "out"), trained)
    rows = table(tmp_path / "out/predictions.csv")
    found = [(Path(row["path"]).parts[0], row["side"]) for row in rows]
    both = [(f"Breast_MRI_{n:03}", side) for n in (1, 2, 4, 41) for side in ("left", "right")]
    assert found == [*both, ("Breast_MRI_101", "left")]
    files = {row["path"]: row for row in table(tmp_path / "out/files.csv")}
    assert len(files) == sum(path.is_file() for path in folder.rglob("*"))
    reasons = {Path(path).parts[0]: row["reason"] for path, row in files.items() if row["status"] != "used"}
    assert reasons["notes.txt"] == "a text, no image"
    assert "no two volumes are phases of one series" in reasons["alone"]
    aside = {row["reason"] for row in files.values() if "901" in row["path"]}
    assert aside == {"a derived map (SUBTRACTION)"}
    studies = {Path(row["path"]).parts[0]: row for row in table(tmp_path / "out/studies.csv")}
    assert studies["Breast_MRI_001"]["decided"] == "ContrastBolusAgent"
    assert studies["Breast_MRI_004"]["clock"] == "FrameAcquisitionDateTime"
    assert studies["Breast_MRI_101"]["sides"] == "left"
    assert {row["phases"] for row in studies.values()} == {"3"}


@pytest.mark.slow
def test_one_study_in_all_its_forms_gives_the_same_probabilities(trained: Path, tmp_path: Path) -> None:
    """Classic, enhanced, NIfTI by two names and in four dimensions, MetaImage: to the bit of what is written."""
    from tests.makers.phantom_forms import FORMS, study

    made = study()
    for name, write in FORMS.items():
        write(made, tmp_path / "in" / name)
    run_command(
        bundle_command("inference", "inference", dataset_dir=tmp_path / "in", output_dir=tmp_path / "out"), trained
    )
    rows = table(tmp_path / "out/predictions.csv")
    assert len(rows) == 2 * len(FORMS) >= 14
    for side in ("left", "right"):
        values = [float(row["Malignant"]) for row in rows if row["side"] == side]
        assert len(values) == len(FORMS)
        assert max(values) - min(values) <= 1e-6 * max(values), side


@pytest.mark.slow
def test_sides_of_the_sample_are_those_of_the_patient() -> None:
    """A malignant lesion washes out in the crop of its own side, and in no other: swapped sides would fail."""
    parser = ConfigParser(config(BREAST, "train"))
    parser["bundle_root"] = str(BREAST)
    transforms = parser.get_parsed_content("train#deterministic_transforms")
    falls: dict[bool, list[float]] = {True: [], False: []}
    for item in load_datalist(BREAST / "sample_data/datalist.json", split="test", class_names=["Malignant"]):
        image = dict(item)
        for step in transforms:
            image = step(image)
        first, last = image["image"].numpy()
        fall = torch.nn.functional.avg_pool3d(torch.from_numpy(first - last)[None], 3, 1)
        falls[bool(item["label"][0])].append(float(fall.max()))
    assert np.median(falls[True]) > np.quantile(falls[False], 0.8)


@pytest.mark.slow
def test_overlay_of_exclusive_classes(tmp_path: Path) -> None:
    overlay = "three_classes"
    bundle = copy_bundle(BREAST, tmp_path)
    sample = bundle / "sample_data"
    command = f"python -m seqnorm_monai prepare breasts-lesions --root {sample} --table {sample}/labels.csv"
    run_command(f"{command} --output {sample}/datalist.json --fractions 0.6 0.2 0.2", tmp_path)
    keep(bundle, 10)
    run_command(bundle_command("training", "train", overlay, **SMALL), bundle)
    run_command(bundle_command("evaluate", "train", overlay, "evaluate"), bundle)
    options = {"dataset_dir": sample / "Breast_MRI_004"}
    run_command(bundle_command("inference", "inference", overlay, **options), bundle)
    for row in table(bundle / "output/inference/predictions.csv"):
        chances = [float(row[name]) for name in ("No lesion", "Benign", "Malignant")]
        assert sum(chances) == pytest.approx(1, abs=1e-6)
    # two classes in the datalist do not fit exclusive ones: refused by name, before the first image
    shutil.copy(BREAST / "sample_data/datalist.json", sample / "datalist.json")
    output = run_command(bundle_command("training", "train", overlay, **SMALL), bundle, code=1)
    assert "exclusive classes need exactly one" in output


@pytest.mark.parametrize("overlay", ["three_classes", "full_size"])
def test_overlays_fit_the_configuration(overlay: str) -> None:
    """Every id that an overlay changes exists, and the network can be made with it."""
    parser = ConfigParser(config(BREAST, "train"))
    for name, value in config(BREAST, overlay).items():
        assert name in parser, name
        parser[name] = value
    parser["bundle_root"] = str(BREAST)
    network = parser.get_parsed_content("network_def")
    sizes = parser.get_parsed_content("image_size")
    assert all(size % patch == 0 for size, patch in zip(sizes, network.patch_size, strict=True))
