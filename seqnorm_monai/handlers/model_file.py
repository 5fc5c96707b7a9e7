"""The file of a trained model: its weights, and beside them what they were trained for, as plain data.

    {"model": state dict, "description": {"task": ..., "class_names": [...], "image_size": ..., "network": {...}, ...}}

A network has as many outputs as classes and takes any image, so weights alone would let a run with other classes,
another order of them or another size pass without a word. Both parts load with ``weights_only=True``; hosts find the
weights under the key that MONAI uses.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import monai
import torch

from seqnorm_monai.images.machine_errors import raise_machine_error
from seqnorm_monai.version import __version__

WEIGHTS, DESCRIPTION = "model", "description"
# settings of a network that change how it trains or how fast it is, and no output of the trained network
_NO_OUTPUT = ("dropout_rate", "drop_path_rate", "attention_path", "recompute_gelu")
# what a description holds of the training, not of what it was for
_HISTORY = ("versions", "epoch", "metric")


class ModelFileError(ValueError):
    """A model file is missing, damaged, or was trained for something else; the message names it and what to do."""


def versions() -> dict[str, str]:
    """Those that a result depends on."""
    return {
        "seqnorm_monai": __version__,
        "monai": str(monai.__version__),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def plain(value: Any) -> Any:  # noqa: ANN401
    """`value` in dicts, lists, numbers, texts and None, as ``weights_only`` loads them.

    Raises TypeError for anything else.
    """
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a description holds plain data; got {type(value).__name__}")


def load_plain(path: str | PathLike[str], device: torch.device | str) -> dict[str, Any]:
    """What `torch.save` wrote of tensors and plain data in a dict.

    Raises:
        ModelFileError: if the file is damaged or is something else.
        OSError: for an error of the machine, FileNotFoundError if there is no file.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise
    # torch raises five classes of errors for a file that is cut off or is something else
    except Exception as error:
        raise_machine_error(error)
        if isinstance(error, OSError):
            raise ModelFileError(f"{fspath(path)}: cannot be read ({error.strerror})") from error
        reason = "is damaged, or no file of weights in plain data (weights_only)"
        raise ModelFileError(f"{fspath(path)}: {reason}; copy it again, or train anew") from error
    if not isinstance(content, Mapping):
        raise ModelFileError(f"{fspath(path)}: holds no state dict; copy it again, or train anew")
    return dict(content)


def read_model(path: str | PathLike[str], device: torch.device | str = "cpu") -> tuple[dict[str, Any], dict[str, Any]]:
    """The state dict of a model file and its description, {} for a file of weights alone.

    Raises ModelFileError, also where there is no file, and OSError for an error of the machine.
    """
    try:
        content = load_plain(path, device)
    except FileNotFoundError:
        advice = "train one first (run training), or give the folder of another in ckpt_dir"
        raise ModelFileError(f"{fspath(path)}: there is no model; {advice}") from None
    if isinstance(content.get(WEIGHTS), Mapping):
        return dict(content[WEIGHTS]), dict(content.get(DESCRIPTION) or {})
    return content, {}


class TrainedSettings:
    """What the model in a file was trained for, for a configuration that takes its settings from there.

    Nothing is read before the first setting is asked for, and a file that does not exist has none: a bundle whose model
    has not been trained yet can be looked into with its defaults.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self._description: dict[str, Any] | None = None

    def require(self) -> None:
        """Raise ModelFileError if there is no such file, before any image is looked for."""
        if not self.path.exists():
            read_model(self.path)

    def get(self, name: str, default: Any) -> Any:  # noqa: ANN401
        """A setting; a dot leads into a group of them, as in ``network.hidden_size``.

        Raises:
            ModelFileError: for ``class_names`` of a file of weights alone, for nothing says whether the default fits.
        """
        if self._description is None:
            self._description = read_model(self.path)[1] if self.path.exists() else {}
            self._weights_alone = self.path.exists() and not self._description
        if self._weights_alone and name == "class_names":
            raise ModelFileError(
                f"{self.path}: holds weights alone, and not what they were trained for; give class_names in the order "
                "of its training, and image_size and network_def#... where they were not the defaults, as options"
            )
        value: Any = self._description
        for part in name.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return default
            value = value[part]
        return value


def differences(trained: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A line for each setting that both descriptions have with another value, beginning with its name.

    Left out is what does not change the output of a trained network.
    """
    one, two = _flat(plain(trained)), _flat(plain(now))
    dims = max(2, int(now.get("spatial_dims") or 2))
    return [
        f"{name} was {one[name]!r} in its training, and is {two[name]!r} now"
        for name in one
        if name in two and _axes(name, one[name], dims) != _axes(name, two[name], dims)
    ]


def _flat(description: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in description.items():
        if name in (*_HISTORY, *_NO_OUTPUT):
            continue
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _axes(name: str, value: Any, dims: int) -> Any:  # noqa: ANN401
    """A size as a list with a number for each axis: 224 and [224, 224] are one size."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return [value] * dims if is_number and name.endswith("_size") else value
