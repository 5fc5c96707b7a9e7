"""A bundle's result is made by one command, which writes it to its home and to its page."""

from __future__ import annotations

import copy
import runpy
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bundles.test_files import test_documents_repeat_the_results_of_the_metadata as assert_page_agrees
from tests.makers.bundles import BUNDLES, CHEST, ROOT, class_names, config, copy_bundle, run_command

SCRIPT = runpy.run_path(str(ROOT / "scripts" / "remake_results.py"))
MEASURED = {"command": "c d", "hardware": "7 cores", "versions": "Python 3.1", "commit": "abc1234"}


def metrics(*areas: float | None) -> dict[str, Any]:
    """What an evaluation of the chest bundle writes, as far as it is used."""
    names = class_names(CHEST)
    known = [area for area in areas if area is not None]
    return {
        "num_images": 43,
        "num_patients": 37,
        "classes": {name: {"auroc": {"value": area}} for name, area in zip(names, areas, strict=True)},
        "mean": {"auroc": {"value": sum(known) / len(known)}},
    }


def copy_of_texts(folder: Path) -> Path:
    return Path(shutil.copytree(CHEST, folder / "bundle", ignore=shutil.ignore_patterns("images", "models", "output")))


def test_mean_least_and_greatest_over_the_seeds() -> None:
    results = SCRIPT["summarise"]([metrics(0.5, 0.6, 0.7, 0.8, 0.9), metrics(0.1, 0.6, 0.7, 0.8, 1.0)])
    assert results["mean_auroc"] == {"value": 0.67, "lower": 0.64, "upper": 0.7}
    assert results["auroc"]["Atelectasis"] == {"value": 0.3, "lower": 0.1, "upper": 0.5}
    assert results["auroc"]["Pneumonia"] == {"value": 0.95, "lower": 0.9, "upper": 1.0}
    assert (results["num_images"], results["num_patients"]) == (43, 37)
    assert "2 trainings (seeds 0 to 1)" in results["what"]


def test_refuses_a_class_without_auroc_by_name() -> None:
    with pytest.raises(ValueError, match="no AUROC for Edema: the evaluated list"):
        SCRIPT["summarise"]([metrics(0.5, None, 0.7, 0.8, 0.9)])


def test_writes_both_places_and_nothing_else(tmp_path: Path) -> None:
    bundle = copy_of_texts(tmp_path)
    results = {**SCRIPT["summarise"]([metrics(0.51, 0.62, 0.73, 0.84, 0.95)] * 3), **MEASURED}
    SCRIPT["write"](bundle, results)
    before, after = config(CHEST, "metadata"), config(bundle, "metadata")
    assert after.pop("eval_metrics") == results
    assert after == {name: value for name, value in before.items() if name != "eval_metrics"}
    assert_page_agrees(bundle)
    page, original = [(folder / "docs/README.md").read_text() for folder in (bundle, CHEST)]
    for mark, part in ((SCRIPT["BEGIN"], 0), (SCRIPT["END"], 1)):
        assert page.split(mark)[part] == original.split(mark)[part]
    assert "(43 images of 37 patients): the mean of 3 trainings with the seeds 0 to 2" in page


@pytest.mark.parametrize("mark", ["BEGIN", "END"])
def test_a_page_without_marks_is_refused_and_nothing_written(tmp_path: Path, mark: str) -> None:
    bundle = copy_of_texts(tmp_path)
    page = bundle / "docs/README.md"
    page.write_text(page.read_text().replace(SCRIPT[mark], ""))
    metadata = copy.deepcopy(config(bundle, "metadata"))
    with pytest.raises(ValueError, match=r"README\.md: needs these two lines once"):
        SCRIPT["write"](bundle, {**SCRIPT["summarise"]([metrics(0.5, 0.6, 0.7, 0.8, 0.9)]), **MEASURED})
    assert config(bundle, "metadata") == metadata
    with pytest.raises(ValueError, match=r"README\.md: needs these two lines once"):
        SCRIPT["main"]([str(bundle), "--seeds", "1"])


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_committed_page_is_what_the_script_writes(bundle: Path) -> None:
    text = (bundle / "docs/README.md").read_text()
    shown = text.split(SCRIPT["BEGIN"])[1].split(SCRIPT["END"])[0]
    assert shown == SCRIPT["page_section"](config(bundle, "metadata")["eval_metrics"])


@pytest.mark.parametrize(
    ("words", "message"), [(["--seeds", "0"], "at least 1; got 0"), (["--seeds", "1"], "is no folder of a bundle")]
)
def test_refuses_before_anything_is_trained(
    tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        SCRIPT["main"]([str(tmp_path), *words])
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_tiny_run(tmp_path: Path) -> None:
    bundle = copy_bundle(CHEST, tmp_path)
    options = "--max_epochs 1 --image_size 32 --network_def#num_layers 1 --num_bootstrap 20"
    command = [sys.executable, str(ROOT / "scripts/remake_results.py"), str(bundle), "--seeds", "2", "--"]
    output = run_command([*command, *options.split()], tmp_path)
    results = config(bundle, "metadata")["eval_metrics"]
    assert shlex.split(results["command"])[2:] == [bundle.name, "--seeds", "2", "--", *options.split()]
    assert results["mean_auroc"]["lower"] < results["mean_auroc"]["upper"], "two seeds gave one training"
    for name, place in (("lower", min), ("upper", max)):
        means = [float(line.split()[-1]) for line in output.splitlines() if line.startswith("seed ")]
        assert results["mean_auroc"][name] == place(means)
    assert_page_agrees(bundle)
    assert not (bundle / "output").exists()
    assert not list(bundle.rglob("*.pt"))
