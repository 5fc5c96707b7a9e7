"""A collection in PNG, JPEG and TIFF, as most public ones are, through the whole bundle beside DICOM files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seqnorm_monai.data import LoadRadiograph
from tests.bundles.test_runs import SMALL, table
from tests.makers.bundles import CHEST, bundle_command, copy_bundle, run_command


def write_picture(source: Path, target: Path, number: int) -> None:
    """A radiograph in the format of the target's name, grey or as RGB."""
    pixels = LoadRadiograph()(source).numpy()[0].T
    grey = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).resize((96, 96))
    (grey.convert("RGB") if number % 2 else grey).save(target)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty radiographs of twenty patients in four formats, and their table."""
    folder = tmp_path_factory.mktemp("collection")
    rows = []
    for number, source in enumerate(sorted((CHEST / "sample_data/images").iterdir())[:40]):
        suffix = ("png", "jpg", "tif", "dcm")[number % 4]
        target = folder / f"{number}.{suffix}"
        if suffix == "dcm":
            target.write_bytes(source.read_bytes())
        else:
            write_picture(source, target, number // 4)
        rows.append([target.name, f"p{number // 2}", ["Mass", "No Finding"][number // 2 % 2]])
    with (folder / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["image", "patient", "labels"], *rows])
    return folder


@pytest.mark.slow
def test_trains_evaluates_and_predicts(collection: Path, tmp_path: Path) -> None:
    bundle = copy_bundle(CHEST, tmp_path)
    datalist = collection / "datalist.json"
    run_command(f"seqnorm prepare csv --labels labels.csv --images . --output {datalist}", collection)
    options = {"datalist": datalist, "cache_dir": tmp_path / "cache", "max_epochs": 1}
    run_command(bundle_command("training", "train", **options, **SMALL), bundle)
    assert len(list((tmp_path / "cache").iterdir())) == 32
    run_command(bundle_command("evaluate", "train", "evaluate", datalist=datalist), bundle)
    metrics = json.loads((bundle / "output/evaluation/metrics.json").read_text())
    assert list(metrics["classes"]) == ["Mass"]
    colour = np.zeros((40, 40, 3), np.uint8)
    colour[:20, :, 0] = 200
    Image.fromarray(colour).save(collection / "photograph.png")
    (collection / "torn.jpg").write_bytes((collection / "1.jpg").read_bytes()[:1500])
    try:
        run_command(bundle_command("inference", "inference", dataset_dir=collection), bundle)
    finally:
        (collection / "photograph.png").unlink()
        (collection / "torn.jpg").unlink()
    rows = {row["path"]: row for row in table(bundle / "output/inference/predictions.csv")}
    assert len(rows) == 40
    assert rows["0.png"]["StudyInstanceUID"] == ""
    assert rows["3.dcm"]["StudyInstanceUID"]
    rejected = {row["path"]: row["reason"] for row in table(bundle / "output/inference/rejected.csv")}
    assert rejected["photograph.png"] == "a colour image (3 channels), no radiograph"
    assert set(rejected) == {"photograph.png", "torn.jpg"}
    assert len(table(bundle / "output/inference/files.csv")) == 44
