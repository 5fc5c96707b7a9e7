"""Trainings and predictions after public reports, by the commands that the reports would use."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cases.reported import SMALL, make
from tests.makers.bundles import CHEST, bundle_command, copy_bundle, run_command

CLASSES = "['Effusion','Mass']"


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained for one epoch on the 24 radiographs of the cases, with the options SMALL and the two classes."""
    folder = tmp_path_factory.mktemp("cases")
    bundle = copy_bundle(CHEST, folder)
    data = make("order_of_classes", folder)
    train(bundle, data, max_epochs=1, class_names=CLASSES)
    return bundle


def train(bundle: Path, data: Path, *, code: int = 0, **options: object) -> str:
    command = bundle_command("training", "train", datalist=data / "datalist.json", **{**SMALL, **options})
    return run_command(command, bundle, code=code)


def predict(bundle: Path, folder: Path, output: Path, *, code: int = 0, **options: object) -> str:
    """As the cases say: in their folder, with the bundle's path."""
    command = bundle_command("inference", "inference", output_dir=output, bundle_root=bundle, **{**SMALL, **options})
    command = [word.replace("configs/", f"{bundle}/configs/") for word in command]
    return run_command(command, folder, code=code)


def test_radiographs_with_positions(bundle: Path, tmp_path: Path) -> None:
    folder = make("radiographs_with_positions", tmp_path)
    predict(bundle, folder, tmp_path / "out", dataset_dir=".", class_names=CLASSES)
    assert len(table(tmp_path / "out/predictions.csv")) == 8
    assert table(tmp_path / "out/rejected.csv") == []


@pytest.mark.parametrize("name", ["2024", "20240105", "1e5", "a,b", "x#1"])
def test_folder_named_as_number(bundle: Path, tmp_path: Path, name: str) -> None:
    folder = make("folder_named_as_number", tmp_path)
    last = predict(bundle, folder, tmp_path / "out", dataset_dir=name, code=1).splitlines()[-1]
    assert last.startswith("argument dataset_dir")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "way_out"), [("20240105", "./20240105"), ("x#1", "link")])
def test_the_way_out_that_the_message_names(bundle: Path, tmp_path: Path, name: str, way_out: str) -> None:
    folder = make("folder_named_as_number", tmp_path)
    (folder / "link").symlink_to(name)
    predict(bundle, folder, tmp_path / "out", dataset_dir=way_out)
    assert len(table(tmp_path / "out/predictions.csv")) == 2


def test_order_of_classes(bundle: Path, tmp_path: Path) -> None:
    folder = make("order_of_classes", tmp_path)
    predict(bundle, folder, tmp_path / "out", dataset_dir="img", class_names=CLASSES)
    assert list(table(tmp_path / "out/predictions.csv")[0])[4:] == ["Effusion", "Mass"]
    for options in ({"class_names": "['Mass','Effusion']"}, {"image_size": 96}):
        last = predict(bundle, folder, tmp_path / "other", dataset_dir="img", code=1, **options).splitlines()[-1]
        assert f"{next(iter(options))} was" in last
        assert not (tmp_path / "other/predictions.csv").exists()


def test_no_class_to_rank(tmp_path: Path) -> None:
    bundle = copy_bundle(CHEST, tmp_path)
    output = train(bundle, make("no_class_to_rank", tmp_path), class_names=CLASSES, code=1)
    last = output.splitlines()[-1]
    assert "datalist.json: split 'validation' has no class with positive and negative images" in last
    assert "epoch 1" not in output


def test_resume_with_more_epochs(tmp_path: Path) -> None:
    bundle, data = copy_bundle(CHEST, tmp_path), make("resume_with_more_epochs", tmp_path)
    train(bundle, data, max_epochs=3, warmup_epochs=1)
    train(bundle, data, max_epochs=6, warmup_epochs=1, resume=True)
    rates = [float(row["learning_rate"]) for row in table(bundle / "output/training/history.csv")]
    assert len(rates) == 6
    # 5e-4 * (1 + cos(pi * (step - 2) / 10)) / 2 at the last step of each epoch, as the case rounds it
    assert [float(f"{rate:.1e}") for rate in rates[3:]] == [2.5e-4, 1.0e-4, 1.2e-5]


def test_cache_file_cut_off(tmp_path: Path) -> None:
    bundle, data = copy_bundle(CHEST, tmp_path), make("cache_file_cut_off", tmp_path)
    cache = tmp_path / "cache"
    train(bundle, data, max_epochs=1, cache_dir=cache)
    one, two = sorted(cache.iterdir())[:2]
    whole = [one.read_bytes(), two.read_bytes()]
    one.write_bytes(whole[0][: len(whole[0]) // 2])
    two.write_bytes(b"")
    output = train(bundle, data, max_epochs=1, cache_dir=cache)
    assert one.name in output
    assert two.name in output
    assert [one.stat().st_size, two.stat().st_size] == [len(content) for content in whole]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root")
def test_small_shared_memory(tmp_path: Path) -> None:
    """24 predictions, or an end that names shared memory; never a good image among the rejected ones."""
    bundle, data = copy_bundle(CHEST, tmp_path), make("small_shared_memory", tmp_path)
    train(bundle, data, max_epochs=1, image_size=1024, batch_size=2)
    options = {"dataset_dir": data / "img", "output_dir": tmp_path / "out", **SMALL, "image_size": 1024}
    command = bundle_command("inference", "inference", **options)
    quoted = " ".join(f"'{word}'" for word in command)
    mount = "mount -t tmpfs -o size=64m tmpfs /dev/shm"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("mounts are not allowed")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{mount} && exec {quoted}"],
        cwd=bundle,
        capture_output=True,
        text=True,
        timeout=600,
    )
    rejected = tmp_path / "out/rejected.csv"
    if done.returncode == 0:
        assert len(table(tmp_path / "out/predictions.csv")) == 24
        assert table(rejected) == []
    else:
        assert "shared memory" in done.stderr.splitlines()[-1]
        assert not rejected.exists()
    assert json.loads((data / "datalist.json").read_text())["training"]
