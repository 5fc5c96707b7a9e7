"""A model file knows what it was trained for; what does not fit is refused by name."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from seqnorm_monai.handlers import ModelFileError, ModelLoader, TrainedSettings, read_model
from seqnorm_monai.handlers.model_file import differences, plain

DESCRIPTION: dict[str, Any] = {
    "task": "multi-label classification",
    "class_names": ["Effusion", "Mass"],
    "spatial_dims": 2,
    "image_size": 64,
    "spacing": None,
    "network": {"hidden_size": 48, "attention": "seqnorm", "dropout_rate": 0.1, "attention_path": "auto"},
    "preprocessing": {"modalities": ["CR", "DX"], "lower": 0.5},
    "epoch": 7,
    "versions": {"torch": "2.13.0"},
}


def saved(folder: Path, **changes: object) -> Path:
    """The file of a linear model, with changes of its description."""
    torch.manual_seed(3)
    path = folder / "model.pt"
    torch.save({"model": nn.Linear(3, 2).state_dict(), "description": {**DESCRIPTION, **changes}}, path)
    return path


def test_weights_are_loaded_where_all_is_the_same(tmp_path: Path) -> None:
    network = nn.Linear(3, 2)
    path = saved(tmp_path)
    ModelLoader(path, network, DESCRIPTION).load()
    weights, description = read_model(path)
    assert torch.equal(network.weight, weights["weight"])
    assert description == DESCRIPTION


@pytest.mark.parametrize(
    ("now", "says"),
    [
        ({"class_names": ["Mass", "Effusion"]}, r"class_names was \['Effusion', 'Mass'\] .* is \['Mass', 'Effusion'\]"),
        ({"class_names": ["Effusion", "mass"]}, r"is \['Effusion', 'mass'\] now"),
        ({"image_size": 96}, "image_size was 64 in its training, and is 96 now"),
        ({"image_size": [64, 32]}, r"image_size was 64 in its training, and is \[64, 32\] now"),
        ({"spacing": [1.0, 1.0]}, r"spacing was None in its training, and is \[1.0, 1.0\] now"),
        ({"network": {"hidden_size": 48, "attention": "sima"}}, "network.attention was 'seqnorm' .* is 'sima' now"),
        ({"preprocessing": {"modalities": ["CR"], "lower": 0.5}}, r"preprocessing.modalities was \['CR', 'DX'\]"),
        ({"task": "multi-class classification"}, "task was 'multi-label classification'"),
    ],
)
def test_what_does_not_fit_is_named_with_the_file(tmp_path: Path, now: dict[str, Any], says: str) -> None:
    network = nn.Linear(3, 2)
    before = network.weight.detach().clone()
    with pytest.raises(ModelFileError, match=rf"model\.pt: was trained for something else: .*{says}"):
        ModelLoader(saved(tmp_path), network, {**DESCRIPTION, **now}).load()
    assert torch.equal(network.weight, before)


def test_all_differences_are_named_at_once() -> None:
    found = differences(DESCRIPTION, {**DESCRIPTION, "image_size": 32, "class_names": ["Mass"]})
    assert [line.split(" ")[0] for line in found] == ["class_names", "image_size"]


@pytest.mark.parametrize(
    "now",
    [
        {"image_size": [64, 64]},
        {"image_size": 64.0},
        {"class_names": ("Effusion", "Mass")},
        {"epoch": 2, "versions": {"torch": "2.9"}, "metric": 0.3},
        {"network": {"hidden_size": 48, "attention": "seqnorm", "dropout_rate": 0.0, "attention_path": "literal"}},
        {"preprocessing": {"modalities": ("CR", "DX"), "lower": 0.5, "new": 3}},
    ],
)
def test_what_changes_no_output_is_no_difference(now: dict[str, Any]) -> None:
    assert differences(DESCRIPTION, {**DESCRIPTION, **now}) == []


def test_sizes_of_volumes_have_three_axes() -> None:
    one = {"spatial_dims": 3, "image_size": 64}
    assert differences(one, {"spatial_dims": 3, "image_size": [64, 64, 64]}) == []
    assert differences(one, {"spatial_dims": 3, "image_size": [64, 64]})


def test_settings_come_from_the_model(tmp_path: Path) -> None:
    trained = TrainedSettings(saved(tmp_path))
    assert trained.get("class_names", ["other"]) == ["Effusion", "Mass"]
    assert trained.get("network.hidden_size", 192) == 48
    assert trained.get("network.num_heads", 3) == 3
    assert trained.get("image_size.x", 5) == 5
    assert trained.get("spacing", 1.0) is None


def test_settings_are_the_defaults_before_a_training(tmp_path: Path) -> None:
    trained = TrainedSettings(tmp_path / "model.pt")
    assert trained.get("class_names", ["a"]) == ["a"]
    with pytest.raises(ModelFileError, match=r"model\.pt: there is no model; train one first"):
        trained.require()


def test_weights_alone_ask_for_the_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "model.pt"
    torch.save(nn.Linear(3, 2).state_dict(), path)
    trained = TrainedSettings(path)
    with pytest.raises(ModelFileError, match=r"model\.pt: holds weights alone.*give class_names"):
        trained.get("class_names", ["a", "b"])
    assert trained.get("image_size", 224) == 224
    ModelLoader(path, nn.Linear(3, 2), DESCRIPTION).load()
    assert "holds weights alone; whether the classes and their order fit is not known" in caplog.text


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 not an archive", b"<html>404</html>", b"x" * 5000], ids=["empty", "zip", "page", "x"]
)
def test_what_is_no_model_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"model\.pt: is damaged"):
        read_model(path)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_cut_off_model_is_named(tmp_path: Path, kept: float) -> None:
    path = saved(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ModelFileError, match=r"model\.pt: is damaged"):
        read_model(path)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"model": {"weight": Path("x")}}, path)
    with pytest.raises(ModelFileError, match="no file of weights in plain data"):
        read_model(path)


def test_a_tensor_alone_is_no_model(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "model.pt")
    with pytest.raises(ModelFileError, match="holds no state dict"):
        read_model(tmp_path / "model.pt")


def test_weights_of_another_network_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"model\.pt: holds the weights of another network"):
        ModelLoader(saved(tmp_path), nn.Linear(4, 2), DESCRIPTION).load()


def test_an_error_of_the_machine_blames_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(OSError, match="Too many open files"):
        read_model(saved(tmp_path))


def test_plain_takes_plain_data_alone() -> None:
    assert plain({"a": (1, [2.5, None]), 3: {"b": True}}) == {"a": [1, [2.5, None]], "3": {"b": True}}
    with pytest.raises(TypeError, match="a description holds plain data; got ndarray"):
        plain({"a": np.zeros(2)})
