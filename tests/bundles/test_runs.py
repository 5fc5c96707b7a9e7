"""The main job on real input, as a user types it: train, evaluate, predict, stop and go on, export."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pydicom
import pytest
import torch
from monai.bundle import ConfigParser
from pydicom.data import get_testdata_file

from seqnorm_monai.attention import ATTENTION_KINDS, ATTENTION_PATHS
from seqnorm_monai.handlers import read_model
from seqnorm_monai.networks.vit import SeqNormViT
from tests.makers.bundles import CHEST, bundle_command, class_names, config, copy_bundle, environment, run_command

# a network and images so small that an epoch takes a second
SMALL = {"image_size": 32, "network_def__num_layers": 1, "network_def__hidden_size": 24, "network_def__mlp_dim": 24}
CLASSES = class_names(CHEST)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle after training, evaluation and inference with default settings."""
    bundle = copy_bundle(CHEST, tmp_path_factory.mktemp("trained"))
    run_command(bundle_command("training", "train"), bundle)
    run_command(bundle_command("evaluating", "train", "evaluate"), bundle)
    run_command(bundle_command("inference", "inference"), bundle)
    return bundle


@pytest.mark.slow
def test_default_training_learns(trained: Path) -> None:
    history = table(trained / "output/training/history.csv")
    settings = config(CHEST, "train")
    assert [int(row["epoch"]) for row in history] == list(range(1, settings["max_epochs"] + 1))
    losses = [float(row["train_loss"]) for row in history]
    assert sum(losses[-3:]) < 0.85 * sum(losses[1:4])
    assert max(float(row["val_mean_auroc"]) for row in history) > 0.6
    assert list((trained / "output/training/tensorboard").iterdir())


@pytest.mark.slow
def test_fast_paths_keep_their_accuracy_with_trained_weights(trained: Path) -> None:
    """Against the literal form in float64."""
    state, _ = read_model(trained / "models/model.pt")
    options = {k: v for k, v in config(CHEST, "train")["network_def"].items() if isinstance(v, int)}
    x = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    x = torch.nn.functional.interpolate(x, size=224, mode="bicubic")

    def gradients(path: str, dtype: torch.dtype) -> torch.Tensor:
        options.update(num_classes=len(state["head.bias"]), img_size=224)
        network = SeqNormViT(**options, attention_path=path).to(dtype)
        network.load_state_dict(state)
        network.eval()(x.to(dtype)).square().sum().backward()
        return torch.cat([parameter.grad.flatten().double() for parameter in network.parameters()])

    exact = gradients("literal", torch.float64)
    errors = {path: float((gradients(path, torch.float32) - exact).norm() / exact.norm()) for path in ATTENTION_PATHS}
    assert 0 < errors["literal"] < 2e-6
    assert max(errors.values()) < 3 * errors["literal"], errors


@pytest.mark.slow
def test_best_model_is_plain_tensors_of_the_best_epoch(trained: Path) -> None:
    state, _ = read_model(trained / "models/model.pt")
    assert all(isinstance(value, torch.Tensor) and value.isfinite().all() for value in state.values())
    best = torch.load(trained / "output/training/checkpoint.pt", weights_only=True)["best"]
    history = table(trained / "output/training/history.csv")
    top = max(history, key=lambda row: float(row["val_mean_auroc"]))
    assert best["epoch"] == int(top["epoch"])
    assert best["metric"] == pytest.approx(float(top["val_mean_auroc"]))


@pytest.mark.slow
def test_evaluation_reports_the_test_patients(trained: Path) -> None:
    metrics = json.loads((trained / "output/evaluation/metrics.json").read_text())
    items = json.loads((trained / "sample_data/datalist.json").read_text())["test"]
    assert metrics["num_images"] == len(items)
    assert metrics["num_patients"] == len({item["patient"] for item in items})
    assert list(metrics["classes"]) == CLASSES
    for name, values in metrics["classes"].items():
        assert values["num_positive_images"] == sum(name in item["label"] for item in items)
        assert values["auroc"]["lower"] <= values["auroc"]["value"] <= values["auroc"]["upper"]
    points = [values["auroc"]["value"] for values in metrics["classes"].values()]
    assert metrics["mean"]["auroc"]["value"] == pytest.approx(sum(points) / len(points))
    assert [row["class"] for row in table(trained / "output/evaluation/metrics.csv")] == [*CLASSES, "mean"]


@pytest.mark.slow
def test_predictions_are_those_that_were_evaluated(trained: Path) -> None:
    """Inference and evaluation are two configurations of one model: their numbers must agree."""
    rows = table(trained / "output/inference/predictions.csv")
    files = sorted((trained / "sample_data/images").glob("*.dcm"))
    assert sorted(row["path"] for row in rows) == [f"images/{path.name}" for path in files]
    assert table(trained / "output/inference/rejected.csv") == []
    others = [row for row in table(trained / "output/inference/files.csv") if row["status"] != "predicted"]
    assert [(row["path"], row["status"]) for row in others] == [
        ("datalist.json", "set_aside"),
        ("labels.csv", "set_aside"),
        ("provenance.json", "set_aside"),
    ]
    for row in rows[::37]:
        header = pydicom.dcmread(trained / "sample_data" / row["path"], stop_before_pixels=True)
        for uid in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            assert row[uid] == str(header[uid].value)
    predicted = {row["path"]: row for row in rows}
    items = json.loads((trained / "sample_data/datalist.json").read_text())["test"]
    metrics = json.loads((trained / "output/evaluation/metrics.json").read_text())
    for name in CLASSES:
        pairs = [(float(predicted[item["image"]][name]), name in item["label"]) for item in items]
        positive = [p for p, label in pairs if label]
        negative = [p for p, label in pairs if not label]
        wins = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
        area = wins / (len(positive) * len(negative))
        assert metrics["classes"][name]["auroc"]["value"] == pytest.approx(area, rel=1e-6)


def hostile_folder(folder: Path, good: list[Path]) -> dict[str, str]:
    """Good DICOM files among what real folders hold; returns the expected word of each rejection's reason."""
    for number, path in enumerate(good):
        target = folder / f"study {number}" / "Serie é" / path.name
        target.parent.mkdir(parents=True)
        shutil.copy(path, target)
    whole = good[0].read_bytes()
    (folder / "truncated.dcm").write_bytes(whole[: len(whole) // 2])
    (folder / "text.dcm").write_text("this is no image\n" * 50)
    (folder / "page.dcm").write_text("<!DOCTYPE html><html><body>404</body></html>")
    (folder / "empty.dcm").write_bytes(b"")
    shutil.copy(get_testdata_file("rtstruct.dcm"), folder / "structures.dcm")
    shutil.copy(get_testdata_file("CT_small.dcm"), folder / "slice.dcm")
    (folder / "broken link.dcm").symlink_to(folder / "nowhere.dcm")
    return {
        "truncated.dcm": "",
        "text.dcm": "DICOM",
        "page.dcm": "DICOM",
        "empty.dcm": "empty",
        "structures.dcm": "an RT structure set",
        "slice.dcm": "CT",
        "broken link.dcm": "link",
    }


@pytest.mark.slow
def test_every_file_of_a_mixed_folder_is_accounted_for(trained: Path, tmp_path: Path) -> None:
    good = sorted((trained / "sample_data/images").glob("*.dcm"))[:3]
    studies, results = tmp_path / "studies", tmp_path / "results"
    studies.mkdir()
    expected = hostile_folder(studies, good)
    log = run_command(bundle_command("inference", "inference", dataset_dir=studies, output_dir=results), trained)
    predictions, rejected = table(results / "predictions.csv"), table(results / "rejected.csv")
    listed = [row["path"] for row in predictions + rejected]
    present = [str(p.relative_to(studies)) for p in studies.rglob("*") if p.is_symlink() or p.is_file()]
    assert sorted(listed) == sorted(present)
    assert {Path(row["path"]).name for row in predictions} == {path.name for path in good}
    reasons = {row["path"]: row["reason"] for row in rejected}
    assert set(reasons) == set(expected)
    for name, word in expected.items():
        assert reasons[name], name
        assert word in reasons[name], name
    statuses = {Path(row["path"]).name: row["status"] for row in table(results / "files.csv")}
    assert len(statuses) == len(listed)
    assert {name for name, status in statuses.items() if status == "predicted"} == {path.name for path in good}
    assert {name for name, status in statuses.items() if status == "set_aside"} == {"structures.dcm", "slice.dcm"}
    for name in (get_testdata_file("CT_small.dcm"), get_testdata_file("rtstruct.dcm"), good[0]):
        header = pydicom.dcmread(name, stop_before_pixels=True, force=True)
        for value in (str(header.PatientID), str(header.PatientName)):
            assert not value or value not in log + "".join(reasons.values())


@pytest.mark.slow
def test_a_folder_without_any_image_ends_well(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("nothing here")
    run_command(
        bundle_command("inference", "inference", dataset_dir=tmp_path / "in", output_dir=tmp_path / "out"), trained
    )
    assert table(tmp_path / "out/predictions.csv") == []
    assert table(tmp_path / "out/rejected.csv") == []
    (row,) = table(tmp_path / "out/files.csv")
    assert (row["path"], row["status"], row["reason"]) == ("notes.txt", "set_aside", "a text, no image")


@pytest.mark.slow
def test_exports(trained: Path) -> None:
    """TorchScript by script and by trace, and ONNX, all equal to the network that was trained."""
    common = "--net_id network_def --ckpt_file models/model.pt --key_in_ckpt model"
    common += " --meta_file configs/metadata.json --config_file configs/inference.json"
    shape = "--input_shape '[1, 1, 224, 224]'"
    run_command(f"python -m monai.bundle ckpt_export {common} --filepath models/script.ts", trained)
    run_command(
        f"python -m monai.bundle ckpt_export {common} --filepath models/trace.ts --use_trace True {shape}", trained
    )
    parser = ConfigParser()
    parser.read_config(str(trained / "configs/inference.json"))
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(read_model(trained / "models/model.pt")[0])
    x = torch.randn(1, 1, 224, 224, generator=torch.Generator().manual_seed(3))
    for name in ("script", "trace"):
        exported = torch.jit.load(trained / f"models/{name}.ts")
        assert torch.allclose(exported(x), network(x), rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("kind", ATTENTION_KINDS)
def test_every_kind_of_attention_trains_by_one_word(kind: str, tmp_path: Path) -> None:
    """From outside the bundle, with --bundle_root, as from the repository's root."""
    bundle = copy_bundle(CHEST, tmp_path)
    command = bundle_command("training", "train", network_def__attention=kind, max_epochs=2, **SMALL)
    command = [f"{bundle.name}/{word}" if word.startswith("configs/") else word for word in command]
    run_command([*command, "--bundle_root", bundle.name], tmp_path)
    assert len(table(bundle / "output/training/history.csv")) == 2
    # hosts offer every .pt file there as weights of the network
    assert [path.name for path in (bundle / "models").rglob("*.pt")] == ["model.pt"]


def test_training_goes_on_after_sigkill(tmp_path: Path) -> None:
    bundle = copy_bundle(CHEST, tmp_path)
    history = bundle / "output/training/history.csv"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            bundle_command("training", "train", max_epochs=500, **SMALL),
            cwd=bundle,
            env=environment(),
            stdout=log,
            stderr=log,
        )
        deadline = time.monotonic() + 300
        while not (history.is_file() and len(table(history)) >= 3):
            assert process.poll() is None, (tmp_path / "log").read_text()[-4000:]
            assert time.monotonic() < deadline, "no third epoch"
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    reached = torch.load(bundle / "output/training/checkpoint.pt", weights_only=True)
    done = reached["trainer"]["iteration"] // reached["trainer"]["epoch_length"]
    before = table(history)[:done]
    output = run_command(bundle_command("training", "train", max_epochs=done + 2, resume=True, **SMALL), bundle)
    assert re.search(rf"Resumed from output/training/checkpoint\.pt after epoch {done}\b", output)
    after = table(history)
    assert [int(row["epoch"]) for row in after] == list(range(1, done + 3))
    assert after[:done] == before


def test_resumed_training_ends_where_an_unbroken_one_ends(tmp_path: Path) -> None:
    """Weights, optimizer and schedule, bit for bit; the length of the schedule is the same for all three."""

    def train(bundle: Path, max_epochs: int, **options: object) -> dict[str, torch.Tensor]:
        options |= {"max_epochs": max_epochs, "lr_scheduler__t_total": 24, **SMALL}
        run_command(bundle_command("training", "train", **options), bundle)
        return torch.load(bundle / "output/training/checkpoint.pt", weights_only=True)

    whole = train(copy_bundle(CHEST, tmp_path / "whole"), 3)
    parts = copy_bundle(CHEST, tmp_path / "parts")
    train(parts, 2)
    resumed = train(parts, 3, resume=True)
    assert resumed["lr_scheduler"]["last_epoch"] == whole["lr_scheduler"]["last_epoch"] == 24
    for name, value in whole["network"].items():
        assert torch.equal(resumed["network"][name], value), name
    for number, state in whole["optimizer"]["state"].items():
        assert torch.equal(resumed["optimizer"]["state"][number]["exp_avg_sq"], state["exp_avg_sq"])


def test_resume_without_a_checkpoint_says_so(tmp_path: Path) -> None:
    bundle = copy_bundle(CHEST, tmp_path)
    output = run_command(bundle_command("training", "train", resume=True, **SMALL), bundle, code=1)
    assert "output/training/checkpoint.pt: there is no checkpoint to resume from" in output


def test_training_refuses_a_patient_in_two_splits_by_name(tmp_path: Path) -> None:
    bundle = copy_bundle(CHEST, tmp_path)
    path = bundle / "sample_data/datalist.json"
    datalist = json.loads(path.read_text())
    patient = datalist["test"][0]["patient"]
    datalist["training"][0]["patient"] = patient
    datalist["validation"][0]["image"] = "images/missing.dcm"
    datalist["validation"][1]["label"] = ["Gout"]
    path.write_text(json.dumps(datalist))
    output = run_command(bundle_command("training", "train", **SMALL), bundle, code=1)
    assert f"patient '{patient}' stands in the splits training and test" in output
    assert "missing.dcm does not exist" in output
    assert "unknown label 'Gout'" in output
