"""The bundles' configurations are written from a base and from what a modality has of its own."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path

import pytest

from tests.makers.bundles import BUNDLES, ROOT

SCRIPT = runpy.run_path(str(ROOT / "scripts" / "write_bundle_configs.py"))
SOURCES = ROOT / "scripts" / "bundle_configs"
MODALITIES = sorted(SOURCES.glob("*.json"))

# all that may differ between two bundles: none has a handler, a data set or a trainer of its own
OF_A_MODALITY = {
    *("class_names", "image_size", "network_def", "key_metric", "key_metric_name"),
    *("batch_size", "max_epochs", "warmup_epochs", "learning_rate", "weight_decay"),
    *("balanced", "find_images", "find_options", "item_columns", "reading"),
    *("task", "spacing", "preprocessing_settings", "preprocessing", "augmentation", "postprocessing"),
}


def test_committed_files_are_what_the_sources_give() -> None:
    """To the byte, and for every bundle."""
    texts = {name: text for modality in MODALITIES for name, text in SCRIPT["compose"](modality).items()}
    assert {Path(name).parts[0] for name in texts} == {bundle.name for bundle in BUNDLES}
    for name, text in texts.items():
        assert (ROOT / "bundles" / name).read_text() == text, f"{name}: run scripts/write_bundle_configs.py"


@pytest.mark.parametrize("modality", MODALITIES, ids=lambda path: path.stem)
def test_a_modality_holds_nothing_but_what_differs(modality: Path) -> None:
    assert set(json.loads(modality.read_text())) == {"bundle", *OF_A_MODALITY}


def test_gaps_are_filled_in_values_texts_and_keys() -> None:
    template = {"val_<name>": ["<steps>", 3, None, "$@x < 2 and y>1", "a <name> of <count>"]}
    filled = SCRIPT["fill"](template, {"name": "area", "steps": [{"keys": "image"}], "count": 5})
    assert filled == {"val_area": [[{"keys": "image"}], 3, None, "$@x < 2 and y>1", "a area of 5"]}


_ABSENT = object()


def sources_with(folder: Path, **changes: object) -> Path:
    """A copy of the sources in which the first modality has other values, or lacks one."""
    shutil.copytree(SOURCES, folder)
    modality = folder / MODALITIES[0].name
    values = {**json.loads(modality.read_text()), **changes}
    modality.write_text(json.dumps({name: value for name, value in values.items() if value is not _ABSENT}))
    return modality


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"balanced": _ABSENT}, "has no balanced"), ({"handlers": []}, "no base file has a gap for handlers")],
)
def test_refuses_a_gap_or_a_value_too_many(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    modality = sources_with(tmp_path / "sources", **changes)
    with pytest.raises(ValueError, match=f"{modality.name}: {message}"):
        SCRIPT["compose"](modality)


def test_check_names_what_differs_and_writing_mends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources_with(tmp_path / "sources", image_size=449)
    shutil.copytree(ROOT / "bundles", tmp_path / "bundles", ignore=shutil.ignore_patterns("sample_data"))
    folders = ["--sources", str(tmp_path / "sources"), "--bundles", str(tmp_path / "bundles")]
    configs = tmp_path / "bundles" / json.loads(MODALITIES[0].read_text())["bundle"] / "configs"
    changed = [configs / f"{kind}.json" for kind in ("train", "inference", "evaluate")]
    before = changed[0].read_text()
    assert SCRIPT["main"]([*folders, "--check"]) == 1
    assert capsys.readouterr().out.splitlines() == [f"{path} differs from its sources" for path in changed]
    assert changed[0].read_text() == before
    assert SCRIPT["main"](folders) == 0
    assert json.loads(changed[0].read_text())["image_size"] == 449
    assert all("get('image_size', 449)" in json.loads(path.read_text())["image_size"] for path in changed[1:])
    assert SCRIPT["main"]([*folders, "--check"]) == 0
