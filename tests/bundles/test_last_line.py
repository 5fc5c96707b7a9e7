"""What a run refuses stands last on the terminal, in one line that names the cause and the cure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bundles.test_runs import SMALL
from tests.makers.bundles import CHEST, bundle_command, copy_bundle, environment, run_command


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that was never trained."""
    return copy_bundle(CHEST, tmp_path_factory.mktemp("untrained"))


def last_line(bundle: Path, action: str, **options: object) -> str:
    configs = {"training": ["train"], "evaluate": ["train", "evaluate"], "inference": ["inference"]}[action]
    output = run_command(bundle_command(action, *configs, **options), bundle, code=1)
    assert "Traceback (most" not in output
    return output.splitlines()[-1]


@pytest.mark.parametrize(
    ("action", "options", "says"),
    [
        ("training", {"dataset_dir": "2024"}, "argument dataset_dir must be a path; got 2024 (int)"),
        ("training", {"output_dir": "1e5"}, "argument output_dir must be a path; got 100000.0 (float)"),
        ("training", {"cache_dir": "a,b"}, "argument cache_dir must be a path; got ('a', 'b') (tuple)"),
        ("training", {"datalist": "None"}, "argument datalist: MONAI takes None for no value"),
        ("training", {"datalist": "x/none.json"}, "datalist x/none.json: cannot be opened (No such file"),
        ("training", {"class_names": "['A','A']"}, "argument class_names holds A twice"),
        ("training", {"resume": "true", **SMALL}, "checkpoint.pt: there is no checkpoint to resume from"),
        ("training", {"resume": "no", **SMALL}, "argument resume must be true or false; got 'no' (str)"),
        ("training", {"amp": "off", **SMALL}, "argument amp must be true or false; got 'off' (str)"),
        ("training", {"image_size": 33}, "img_size (33, 33) must be a positive multiple of patch_size (16, 16)"),
        ("inference", {}, "models/model.pt: there is no model; train one first"),
        ("inference", {"dataset_dir": "x#1"}, "no path with the character #, and made 'x' of 'x#1'"),
        ("evaluate", {}, "models/model.pt: there is no model; train one first"),
        ("evaluate", {"ckpt_dir": "None"}, "argument ckpt_dir: MONAI takes None for no value"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else None,
)
def test_refusal_is_the_last_line(bundle: Path, action: str, options: dict[str, object], says: str) -> None:
    assert says in last_line(bundle, action, **options)


def test_a_refused_run_leaves_no_trace_of_a_run(bundle: Path, tmp_path: Path) -> None:
    """A later one with --resume would take it for a training that was interrupted."""
    last_line(bundle, "training", image_size=33, output_dir=tmp_path / "o", ckpt_dir=tmp_path / "m")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_value_that_monai_takes_for_a_reference_is_explained_last(bundle: Path) -> None:
    output = run_command(bundle_command("training", "train", dataset_dir="@x"), bundle, code=1)
    assert output.splitlines()[-1].startswith("--dataset_dir @x: MONAI takes what begins with @ for a reference")


def test_the_whole_traceback_is_at_hand(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQNORM_DEBUG", "1")
    assert environment()["SEQNORM_DEBUG"] == "1"
    output = run_command(bundle_command("training", "train", datalist="x/none.json"), bundle, code=1)
    assert "Traceback (most" in output
