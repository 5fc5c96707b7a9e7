"""The documents' own commands, run as they stand, on a small folder of DICOM files like a user's."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import generate_uid

from seqnorm_monai.images.dicom.write import RadiographHeader, write_radiograph
from seqnorm_monai.phantoms.collection import Recipe, write_collection
from tests.makers.bundles import BUNDLES, CHEST, ROOT, SHARED, copy_bundle, run_command

# appended to what trains, so that a test of the command does not wait for the result
QUICK = " --max_epochs 1 --network_def#num_layers 1"


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", path.read_text(), re.S | re.M)


def commands(path: Path) -> list[str]:
    """The commands of a document: each line of its bash blocks that starts with a program, joined with its rest."""
    found = []
    for block in blocks(path, "bash"):
        joined = re.sub(r"\\\n\s*", " ", block)
        found += [line.split("#  ")[0].strip() for line in joined.splitlines() if line.strip()]
    return [re.sub(r"\s{2,}# .*$", "", line) for line in found]


def user_folder(folder: Path) -> None:
    """Twenty patients with two studies each, and a table of their labels."""
    generator = np.random.default_rng(7)
    rows = []
    for number in range(40):
        name = f"patient{number // 2}/study{number}.dcm"
        path = folder / "studies" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        header = RadiographHeader(
            patient_id=f"P{number // 2}",
            study_uid=generate_uid(entropy_srcs=["study", str(number)]),
            series_uid=generate_uid(entropy_srcs=["series", str(number)]),
            sop_uid=generate_uid(entropy_srcs=["image", str(number)]),
            view_position="PA",
            patient_sex="O",
            patient_age="",
        )
        write_radiograph(path, generator.integers(0, 4096, (97, 83)).astype(np.uint16), header, bits_stored=12)
        rows.append([name, f"p{number // 2}", ["Effusion", "Mass", "Effusion|Mass", "No Finding"][number // 2 % 4]])
    with (folder / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["image", "patient", "labels"], *rows])


def test_readme_shows_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert "bash scripts/quickstart.sh" in text
    assert "bash scripts/test.sh" in text
    assert "Research use only" in text


@pytest.mark.slow
def test_readmes_commands_run(tmp_path: Path) -> None:
    """In the order of the page, in a copy of the bundle; installing is what brought the tests here."""
    user_folder(tmp_path)
    (tmp_path / "bundles").mkdir()
    write_collection(Recipe(studies=40, spacing=(7.0, 7.0, 10.0)), tmp_path / "BREAST_FOLDER", num_workers=2)
    for original in BUNDLES:
        bundle = copy_bundle(original, tmp_path / "bundles")
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    ran = []
    for command in [*commands(ROOT / "README.md"), *commands(ROOT / "seqnorm_monai/images/README.md")]:
        if command.startswith("cd bundles/"):
            bundle = tmp_path / command.removeprefix("cd ")
        if not command.startswith(("python ", "seqnorm ")):
            continue
        command = command.replace("DICOM_FOLDER", "studies").replace("/path/to/", f"{tmp_path}/")
        command = command.replace("--image_size 1024", "--image_size 64")
        inside = "monai.bundle" in command
        if "run training" in command:
            command += QUICK.replace("1", "2", 1) if "--resume" in command else QUICK
        elif inside or "seqnorm check" in command:
            command += " --network_def#num_layers 1"
        run_command(command, bundle if inside else tmp_path)
        ran.append(command)
    assert len(ran) == 16
    breasts = (tmp_path / "bundles/breast_mri_classification/output/inference/predictions.csv").read_text()
    assert len(breasts.splitlines()) == 1 + 79
    content = json.loads((tmp_path / "content.json").read_text())
    assert len(content["rows"]) == len(content["files"]) == len(list((tmp_path / "volumes").iterdir())) == 40
    assert len((tmp_path / "results/predictions.csv").read_text().splitlines()) == 41


PAGES = [ROOT / "README.md", *(ROOT / "seqnorm_monai").rglob("README.md"), ROOT / "scripts/results/README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_of_all_pages_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for block in blocks(page, "python"):
        scope: dict[str, object] = {}
        exec(compile(block, str(page), "exec"), scope)
        assert "logits" not in scope or scope["logits"].shape[1] == 2
        assert "items" not in scope or "rules" not in scope or sum("unreadable" not in i for i in scope["items"]) == 210
        assert "array" not in scope or scope["array"].pixels.shape == (1, 512, 512)


def test_each_page_is_found() -> None:
    assert {page.parent.name for page in PAGES} >= {"attention", "streaming", "images", "data", "results"}


@pytest.mark.slow
@pytest.mark.parametrize("original", BUNDLES, ids=lambda path: path.name)
def test_bundles_page_commands_run(original: Path, tmp_path: Path) -> None:
    """The table of the bundle's page, row by row."""
    bundle = copy_bundle(original, tmp_path)
    folder = bundle / "sample_data" / ("images" if original == CHEST else "Breast_MRI_003")
    shutil.copytree(folder, tmp_path / "FOLDER")
    rows = re.findall(r"^\| [\w ]+ \| `(python .*?)` \|$", (original / "docs/README.md").read_text(), re.M)
    schema = SHARED / "data" / "meta_schema_20240725.json"
    ran = []
    for command in rows:
        if "verify_metadata" in command and not schema.is_file():
            continue  # it would be downloaded
        command = command.replace("SCHEMA.json", shlex.quote(str(schema))).replace("FOLDER", f"{tmp_path}/FOLDER")
        if "run training" in command:
            command += QUICK.replace("1", "2", 1) if "--resume" in command else QUICK
        elif "verify_metadata" not in command:
            command += " --network_def#num_layers 1"
        run_command(command, bundle)
        ran.append(command)
    assert len(ran) == len(rows) - (not schema.is_file())
    assert len(rows) == 7
