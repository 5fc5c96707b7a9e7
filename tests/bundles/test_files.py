"""Every bundle: complete, consistent with itself, and what MONAI's own checks ask for."""

from __future__ import annotations

import hashlib
import importlib
import json
import logging.config
import re
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, create_workflow, verify_metadata, verify_net_in_out

from seqnorm_monai import __version__
from seqnorm_monai.attention import ATTENTION_KINDS
from tests.makers.bundles import BUNDLES, SHARED, class_names, config

every_bundle = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)

SCHEMA_SHA256 = "73121e97207ac62fe15f660233ab36ab88812e9ffb5f025874f379dca0000b0e"

# what an overlay may add to its base: its own numbers, and the ids by which it is run
NEW_IN_OVERLAYS = {
    "evaluate": {"split", "num_bootstrap", "confidence", "evaluate", "evaluating", "model_file", "trained"}
}


def test_there_are_bundles() -> None:
    assert BUNDLES


@every_bundle
def test_is_complete_and_holds_no_python(bundle: Path) -> None:
    for name in ("LICENSE", "docs/README.md", "docs/data_license.txt", "configs/logging.conf"):
        assert (bundle / name).is_file(), name
    for name in ("train", "evaluate", "inference", "metadata"):
        config(bundle, name)
    assert not list(bundle.rglob("*.py"))
    # MONAI Label takes the kind of task from the folder's name
    assert "classification" in bundle.name


@every_bundle
def test_logging_configuration_loads(bundle: Path) -> None:
    logging.config.fileConfig(bundle / "configs" / "logging.conf", disable_existing_loggers=False)


@every_bundle
def test_sample_is_small_and_its_checksums_hold(bundle: Path) -> None:
    files = [path for path in (bundle / "sample_data").rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in files) <= 8_000_000
    provenance = json.loads((bundle / "sample_data" / "provenance.json").read_text())
    sample = bundle / "sample_data"
    found = {
        path.relative_to(sample).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.suffix == ".dcm"
    }
    assert found == provenance["sha256"]


@every_bundle
def test_metadata_has_what_the_newest_schema_requires(bundle: Path) -> None:
    """A check that needs no file from elsewhere; the schema itself is applied below where it is at hand."""
    metadata = config(bundle, "metadata")
    required = "schema version monai_version pytorch_version numpy_version required_packages_version task description"
    for name in f"{required} authors copyright network_data_format changelog".split():
        assert metadata[name], name
    assert metadata["version"] in metadata["changelog"]
    assert isinstance(metadata["required_packages_version"], dict)
    assert "optional_packages_version" not in metadata
    for tensors in metadata["network_data_format"].values():
        for tensor in tensors.values():
            assert {"type", "format", "num_channels", "spatial_shape", "dtype", "value_range"} <= set(tensor)


@every_bundle
def test_metadata_passes_the_official_schema(bundle: Path, tmp_path: Path) -> None:
    schema = SHARED / "data" / "meta_schema_20240725.json"
    if not schema.is_file():
        pytest.skip("a copy of MONAI's metadata schema is not at hand")
    copy = tmp_path / schema.name
    copy.write_bytes(schema.read_bytes())
    verify_metadata(
        meta_file=str(bundle / "configs" / "metadata.json"),
        filepath=str(copy),
        hash_val=SCHEMA_SHA256,
        hash_type="sha256",
    )


@every_bundle
def test_metadata_names_the_classes_of_the_network(bundle: Path) -> None:
    output = config(bundle, "metadata")["network_data_format"]["outputs"]["pred"]
    names = class_names(bundle)
    assert list(output["channel_def"].values()) == names
    assert output["num_channels"] == len(names)
    assert output["spatial_shape"] == [1, len(names)]


@every_bundle
def test_metadata_names_the_tested_versions(bundle: Path) -> None:
    pinned = dict(re.findall(r"^([\w-]+)==(\S+)$", (BUNDLES[0].parents[1] / "constraints.txt").read_text(), re.M))
    metadata = config(bundle, "metadata")
    assert metadata["monai_version"] == pinned["monai"]
    assert metadata["pytorch_version"] == pinned["torch"]
    assert metadata["numpy_version"] == pinned["numpy"]
    assert metadata["required_packages_version"]["seqnorm-monai"] == __version__
    others = {name: v for name, v in metadata["required_packages_version"].items() if name != "seqnorm-monai"}
    assert others == {name: pinned[name] for name in others}


def keys_of(tree: object, prefix: str = "") -> set[str]:
    """Every id of a configuration, as MONAI spells it."""
    if not isinstance(tree, dict):
        return set()
    inner = [keys_of(value, f"{prefix}{key}#") for key, value in tree.items()]
    return {f"{prefix}{key}" for key in tree}.union(*inner)


@every_bundle
@pytest.mark.parametrize("overlay", sorted(NEW_IN_OVERLAYS))
def test_overlays_change_only_what_exists(bundle: Path, overlay: str) -> None:
    """MONAI takes a misspelt key without a word."""
    keys = {key.lstrip("+") for key in config(bundle, overlay)}
    assert keys - keys_of(config(bundle, "train")) == NEW_IN_OVERLAYS[overlay]


@every_bundle
def test_inference_stands_alone_and_agrees_with_training(bundle: Path) -> None:
    train, inference = config(bundle, "train"), config(bundle, "inference")
    for name in ("device", "amp", "ckpt_dir"):
        assert inference[name] == train[name], name
    assert inference["preprocessing"]["transforms"] == train["train"]["deterministic_transforms"]
    assert train["validate"]["preprocessing"]["transforms"] == "$@train#deterministic_transforms"
    assert inference["postprocessing"] == train["validate"]["postprocessing"] == train["train"]["postprocessing"]


@every_bundle
def test_all_configurations_describe_one_model(bundle: Path, tmp_path: Path) -> None:
    """Without a model, and with the one of a training that had other settings."""
    defaults = [parser_of(bundle, *names) for names in (["train"], ["inference"], ["train", "evaluate"])]
    for parser in defaults:
        parser["ckpt_dir"] = str(tmp_path)
    descriptions = [parser.get_parsed_content("description") for parser in defaults]
    assert descriptions[0] == descriptions[1] == descriptions[2]
    assert descriptions[0]["class_names"] == class_names(bundle)
    other = parser_of(bundle, "train", network_def__num_layers=1, network_def__attention="sima", image_size=32)
    other["class_names"] = ["Mass", "Gout", "Cyst"]
    other["preprocessing_settings#divisor"] = 0.7
    trained = other.get_parsed_content("description")
    content = {"model": other.get_parsed_content("network_def").state_dict(), "description": trained}
    torch.save(content, tmp_path / "model.pt")
    for names in (["inference"], ["train", "evaluate"]):
        parser = parser_of(bundle, *names)
        parser["ckpt_dir"] = str(tmp_path)
        assert parser.get_parsed_content("description") == trained
        parser.get_parsed_content("network_def").load_state_dict(content["model"])


@every_bundle
@pytest.mark.parametrize(("kind", "name"), [("train", "train"), ("infer", "inference")])
def test_has_the_properties_that_hosts_rely_on(bundle: Path, kind: str, name: str) -> None:
    workflow = create_workflow(
        config_file=str(bundle / "configs" / f"{name}.json"), workflow_type=kind, bundle_root=str(bundle)
    )
    assert workflow.check_properties() == []


def parser_of(bundle: Path, *names: str, **changes: object) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(bundle / "configs" / f"{name}.json") for name in names])
    parser["bundle_root"] = str(bundle)
    for key, value in changes.items():
        parser[key.replace("__", "#")] = value
    return parser


@every_bundle
@pytest.mark.parametrize("changes", [{}, {"max_epochs": 5}, {"train__trainer__max_epochs": 5}], ids=str)
def test_learning_rate_ends_at_zero_with_the_training(bundle: Path, changes: dict[str, int]) -> None:
    """Hosts set the trainer's number of epochs, users the one at the top."""
    parser = parser_of(bundle, "train", cache_rate=0.0, **changes)
    epochs = next(iter(changes.values()), config(bundle, "train")["max_epochs"])
    iterations = epochs * len(parser.get_parsed_content("train#dataloader"))
    assert parser.get_parsed_content("train#trainer").state.max_epochs == epochs
    schedule = parser.get_parsed_content("lr_scheduler")
    rates = [schedule.get_last_lr()[0]]
    for _ in range(iterations):
        schedule.optimizer.step()
        schedule.step()
        rates.append(schedule.get_last_lr()[0])
    assert min(rates[:-1]) > 0
    assert max(rates) == config(bundle, "train")["learning_rate"]
    assert rates[-1] == 0


@every_bundle
@pytest.mark.parametrize("name", ["train", "inference"])
def test_every_postprocessing_is_a_compose(bundle: Path, name: str) -> None:
    """MONAI Label iterates over its transforms, and MONAI Deploy asks for them."""
    parser = parser_of(bundle, name)
    places = ["train#postprocessing", "validate#postprocessing"] if name == "train" else ["postprocessing"]
    for place in places:
        assert [type(step) for step in parser.get_parsed_content(place).transforms], place


@every_bundle
def test_weights_are_saved_and_loaded_without_a_wrapper(bundle: Path) -> None:
    """A wrapper for several processes would add a prefix to the name of every weight."""
    train = config(bundle, "train")
    handlers = [*train["train"]["handlers"], *train["validate"]["handlers"]]
    handlers += [*config(bundle, "evaluate")["validate#handlers"], *config(bundle, "inference")["handlers"]]
    networks = {
        "seqnorm_monai.handlers.ResumableCheckpoint": lambda handler: handler["objects"]["network"],
        "seqnorm_monai.handlers.BestModelSaver": lambda handler: handler["network"],
        "seqnorm_monai.handlers.ModelLoader": lambda handler: handler["network"],
    }
    found = [networks[h["_target_"]](h) for h in handlers if isinstance(h, dict) and h["_target_"] in networks]
    assert found == ["@network_def"] * 4


@every_bundle
@pytest.mark.parametrize("kind", ATTENTION_KINDS)
def test_one_word_changes_the_attention(bundle: Path, kind: str) -> None:
    network = parser_of(bundle, "inference", network_def__attention=kind).get_parsed_content("network_def")
    assert type(network.blocks[0].attention) is ATTENTION_KINDS[kind]
    torch.jit.script(network)


@every_bundle
@pytest.mark.parametrize("n", [1, 3])
def test_network_fits_its_metadata(bundle: Path, n: int) -> None:
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "inference.json"),
        device="cpu",
        n=n,
    )


@every_bundle
def test_every_component_of_every_configuration_is_real(bundle: Path) -> None:
    """Each `_target_` of ours exists under that name in the package."""
    text = "".join(path.read_text() for path in (bundle / "configs").glob("*.json"))
    targets = set(re.findall(r'"_target_": "(seqnorm_monai[\w.]+)"', text))
    assert targets
    for target in targets:
        module, _, name = target.rpartition(".")
        assert hasattr(importlib.import_module(module), name), target


@every_bundle
def test_documents_repeat_the_results_of_the_metadata(bundle: Path) -> None:
    """Numbers have one home; the bundle's page shows them rounded, and names how they were made."""
    results = config(bundle, "metadata")["eval_metrics"]
    page = (bundle / "docs" / "README.md").read_text()
    shown = dict(re.findall(r"^\| (\w+) \| (\d\.\d\d \(.*?\)) \|$", page, re.M))
    expected = {**results["auroc"], "mean": results["mean_auroc"]}
    assert shown == {k: f"{v['value']:.2f} ({v['lower']:.2f} to {v['upper']:.2f})" for k, v in expected.items()}
    for name in ("command", "hardware", "versions", "commit"):
        assert results[name] in page, name
    assert set(results["auroc"]) == set(class_names(bundle))
