"""Inference of a bundle over what departments export: archives, series among radiographs, copies, media."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from tests.makers.bundles import CHEST, bundle_command, config, copy_bundle, run_command
from tests.makers.studies import SECRETS, SERIES, STUDY, write_phases

STATUSES = ("predicted", "used", "set_aside", "rejected")


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chest bundle with the weights of an untrained network."""
    folder = copy_bundle(CHEST, tmp_path_factory.mktemp("bundle"))
    save_weights(config(CHEST, "inference"), folder)
    return folder


def save_weights(settings: dict[str, object], folder: Path) -> None:
    parser = ConfigParser(settings)
    content = {"model": parser.get_parsed_content("network_def").state_dict()}
    (folder / "models").mkdir(exist_ok=True)
    torch.save({**content, "description": parser.get_parsed_content("description")}, folder / "models" / "model.pt")


@pytest.mark.slow
def test_radiographs_among_everything_else(bundle: Path, tmp_path: Path) -> None:
    """Radiographs in folders and archives are predicted; copies, series and reports say what they are."""
    folder, results = tmp_path / "in", tmp_path / "out"
    images = sorted((bundle / "sample_data/images").rglob("*.dcm"))[:3]
    for name, image in zip(("a/1.dcm", "a/copy.dcm", "b/2.dcm"), (images[0], images[0], images[1]), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, folder / name)
    write_phases(folder / "mr", 2)
    with zipfile.ZipFile(folder / "export.zip", "w") as archive:
        archive.write(images[2], "deep/3.dcm")
        archive.writestr("deep/cut.dcm", images[2].read_bytes()[:3000])
    log = run_command(bundle_command("inference", "inference", dataset_dir=folder, output_dir=results), bundle)
    files = {row["path"]: row for row in table(results / "files.csv")}
    by_status = {status: sorted(path for path in files if files[path]["status"] == status) for status in STATUSES}
    assert by_status["predicted"] == ["a/1.dcm", "b/2.dcm", "export.zip/deep/3.dcm"]
    assert by_status["set_aside"] == ["a/copy.dcm", "export.zip", *sorted(f"mr/I{number}" for number in range(8))]
    assert by_status["rejected"] == ["export.zip/deep/cut.dcm"]
    assert files["a/copy.dcm"]["reason"] == "a copy of a/1.dcm"
    assert files["mr/I0"]["reason"] == "Modality MR, accepted are CR, DX, RG"
    assert {(files[f"mr/I{number}"]["study"], files[f"mr/I{number}"]["series"]) for number in range(8)} == {
        (STUDY, SERIES)
    }
    assert all(files[path]["study"] for path in by_status["predicted"])
    rows = {row["path"]: row for row in table(results / "predictions.csv")}
    assert sorted(rows) == by_status["predicted"]
    text = log + "".join(path.read_text() for path in results.iterdir())
    assert not any(secret in text for secret in SECRETS)


@pytest.mark.slow
def test_a_volume_is_predicted_from_all_its_files(bundle: Path, tmp_path: Path) -> None:
    """The same configuration with another reader and a network for volumes."""
    overlay = {
        "network_def#spatial_dims": 3,
        "network_def#img_size": [8, 8, 4],
        "network_def#patch_size": [4, 4, 2],
        "network_def#in_channels": 2,
        "preprocessing#transforms": [
            {"_target_": "seqnorm_monai.data.LoadStudyd", "keys": "image", "modalities": ["MR"]},
            {"_target_": "Resized", "keys": "image", "spatial_size": [8, 8, 4]},
        ],
        "ckpt_dir": str(tmp_path / "models"),
    }
    (tmp_path / "volume.json").write_text(json.dumps(overlay))
    parser = ConfigParser(config(CHEST, "inference"))
    parser.update({key: value for key, value in overlay.items() if key != "ckpt_dir"})
    save_weights(parser.get(), tmp_path)
    write_phases(tmp_path / "in" / "dce", 2)
    write_phases(tmp_path / "in" / "gap", 2, SeriesInstanceUID="1.2.3.23")
    (tmp_path / "in" / "gap" / "I5").unlink()
    shutil.copy(next((bundle / "sample_data/images").rglob("*.dcm")), tmp_path / "in" / "cr.dcm")
    command = bundle_command("inference", "inference", dataset_dir=tmp_path / "in", output_dir=tmp_path / "out")
    place = command.index("--config_file") + 1
    command[place] = f"['configs/inference.json','{tmp_path / 'volume.json'}']"
    run_command(command, bundle)
    (row,) = table(tmp_path / "out" / "predictions.csv")
    assert row["SeriesInstanceUID"] == SERIES
    files = table(tmp_path / "out" / "files.csv")
    found = {row["path"]: (row["status"], row["series"]) for row in files}
    expected = {f"dce/I{number}": ("used", SERIES) for number in range(8)}
    expected |= {f"gap/I{number}": ("rejected", "1.2.3.23") for number in range(8) if number != 5}
    assert {path: found[path] for path in expected} == expected
    assert found["cr.dcm"][0] == "set_aside"
    assert len(files) == 16
    (reason,) = {row["reason"] for row in files if row["status"] == "rejected"}
    assert "no slice at" in reason
