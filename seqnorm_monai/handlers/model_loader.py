"""The trained weights into a network, once it is sure that they were trained for what the run asks of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from seqnorm_monai.handlers.model_file import ModelFileError, differences, read_model
from seqnorm_monai.paths import require_path

logger = logging.getLogger(__name__)


class ModelLoader:
    """Load a model file (see `seqnorm_monai.handlers.model_file`) before an engine runs.

    Args:
        path: the file, for example ``models/model.pt``.
        network: the network, without any wrapper for distributed training.
        description: what the run takes the model for: class names in their order, sizes, settings of the network and
            of the preprocessing.

    Raises:
        ModelFileError: when the engine starts, if there is no such file, if it is damaged, if a setting in it is not
            that of the run, or if the weights are those of another network.
    """

    def __init__(self, path: str | PathLike[str], network: nn.Module, description: Mapping[str, Any]) -> None:
        self.path = Path(require_path(path, "path"))
        self.network = network
        self.description = description

    def attach(self, engine: Engine) -> None:
        """To be attached to an evaluator."""
        engine.add_event_handler(Events.STARTED, self.load)

    def load(self) -> None:
        """Check the file and load its weights."""
        device = next((parameter.device for parameter in self.network.parameters()), "cpu")
        weights, trained = read_model(self.path, device)
        require_same(self.path, trained, self.description, "leave these options out, for the model knows them")
        try:
            self.network.load_state_dict(weights)
        except RuntimeError as error:
            what = str(error).split("\n")[0].rstrip(":")
            raise ModelFileError(
                f"{self.path}: holds the weights of another network ({what}); give the network_def#... options of its "
                "training, or another ckpt_dir"
            ) from error
        if not trained:
            logger.warning(f"{self.path}: holds weights alone; whether the classes and their order fit is not known")


def require_same(path: Path, trained: Mapping[str, Any], now: Mapping[str, Any], advice: str) -> None:
    """Raise ModelFileError that names the file and every setting which is not as it was in its training."""
    if found := differences(trained, now):
        raise ModelFileError(f"{path}: was trained for something else: {'; '.join(found)}. To use it, {advice}")
