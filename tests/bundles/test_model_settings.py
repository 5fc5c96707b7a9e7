"""A trained bundle needs no setting told twice: evaluation and inference take all from the model, or refuse by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from seqnorm_monai.handlers import read_model
from tests.bundles.test_runs import SMALL, table
from tests.makers.bundles import CHEST, bundle_command, copy_bundle, run_command


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of three classes in an order of their own, and eight radiographs to predict."""
    bundle = copy_bundle(CHEST, tmp_path_factory.mktemp("trained"))
    path = bundle / "sample_data/datalist.json"
    content = json.loads(path.read_text())
    kept = ["Pneumonia", "Infiltration", "Effusion"]
    for items in (content[split] for split in ("training", "validation", "test")):
        for item in items:
            item["label"] = [name for name in item["label"] if name in kept]
    path.write_text(json.dumps({**content, "class_names": kept}))
    run_command(bundle_command("training", "train", max_epochs=1, network_def__attention="sima", **SMALL), bundle)
    (bundle / "few").mkdir()
    for image in sorted((bundle / "sample_data/images").iterdir())[:8]:
        shutil.copy(image, bundle / "few")
    return bundle


def predict(bundle: Path, output: Path, *, code: int = 0, **options: object) -> str:
    return run_command(
        bundle_command("inference", "inference", dataset_dir="few", output_dir=output, num_workers=0, **options),
        bundle,
        code=code,
    )


def test_nothing_is_told_twice(trained: Path, tmp_path: Path) -> None:
    predict(trained, tmp_path)
    rows = table(tmp_path / "predictions.csv")
    assert len(rows) == 8
    assert list(rows[0])[4:] == ["Pneumonia", "Infiltration", "Effusion"]
    output = run_command(bundle_command("evaluate", "train", "evaluate", output_dir=tmp_path), trained)
    assert list(json.loads((tmp_path / "metrics.json").read_text())["classes"]) == list(rows[0])[4:]
    assert "mean" in output
    _, description = read_model(trained / "models/model.pt")
    assert description["image_size"] == 32
    assert description["network"]["attention"] == "sima"


def test_the_same_options_again_are_allowed(trained: Path, tmp_path: Path) -> None:
    names = "['Pneumonia','Infiltration','Effusion']"
    predict(trained, tmp_path / "a", class_names=names, network_def__attention="sima", **SMALL)
    predict(trained, tmp_path / "b")
    assert (tmp_path / "a/predictions.csv").read_text() == (tmp_path / "b/predictions.csv").read_text()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("class_names", "['Effusion','Infiltration','Pneumonia']"),
        ("image_size", 48),
        ("network_def__attention", "seqnorm"),
        ("preprocessing_settings__upper_percentile", 100),
    ],
)
def test_another_value_is_refused_by_name_on_the_last_line(
    trained: Path, tmp_path: Path, option: str, value: object
) -> None:
    last = predict(trained, tmp_path, code=1, **{option: value}).splitlines()[-1]
    assert last.startswith("models/model.pt: was trained for something else: ")
    assert option.split("__")[-1] in last
    assert "Traceback" not in last
    assert not (tmp_path / "predictions.csv").exists()


def test_a_label_that_the_model_does_not_know_is_refused(trained: Path, tmp_path: Path) -> None:
    content = json.loads((trained / "sample_data/datalist.json").read_text())
    content["test"][0]["label"] = ["Gout"]
    path = trained / "sample_data/other.json"
    path.write_text(json.dumps(content))
    command = bundle_command("evaluate", "train", "evaluate", datalist="sample_data/other.json", output_dir=tmp_path)
    last = run_command(command, trained, code=1).splitlines()[-1]
    assert "unknown label 'Gout'; allowed are Pneumonia, Infiltration, Effusion" in last


def test_weights_alone_ask_for_what_they_do_not_know(trained: Path, tmp_path: Path) -> None:
    torch.save(read_model(trained / "models/model.pt")[0], tmp_path / "model.pt")
    last = predict(trained, tmp_path / "a", code=1, ckpt_dir=tmp_path).splitlines()[-1]
    assert "model.pt: holds weights alone" in last
    names = "['Pneumonia','Infiltration','Effusion']"
    options = {"class_names": names, "network_def__attention": "sima", **SMALL}
    assert "holds weights alone" in predict(trained, tmp_path / "a", ckpt_dir=tmp_path, **options)
    predict(trained, tmp_path / "b")
    assert (tmp_path / "a/predictions.csv").read_text() == (tmp_path / "b/predictions.csv").read_text()
