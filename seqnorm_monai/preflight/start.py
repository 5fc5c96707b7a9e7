"""The short check at every start of a training: what is known without reading an image."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from seqnorm_monai.preflight.disk import cache_bytes, require_room, training_bytes
from seqnorm_monai.preflight.labels import count_labels

logger = logging.getLogger(__name__)


def check_start(
    *,
    training: Sequence[Mapping[str, Any]],
    validation: Sequence[Mapping[str, Any]],
    class_names: Sequence[str],
    network: nn.Module,
    output_dir: str,
    ckpt_dir: str,
    cache_dir: str | None,
    description: Mapping[str, Any],
    max_epochs: int,
    val_interval: int,
    batch_size: int,
) -> None:
    """Log what is about to be trained, and refuse a training that could not end well.

    Args:
        training, validation: the items of the splits, see `seqnorm_monai.data.load_datalist`.
        network: the network, for its size.
        output_dir, ckpt_dir, cache_dir: where the checkpoint, the model and decoded images are written.
        description: what is trained, see `seqnorm_monai.handlers.model_file`.

    Raises:
        ValueError: if no epoch is validated, so that no model would ever be saved; or for numbers below 1.
        MachineError: if a disk has too little space.
    """
    for name, value in (("max_epochs", max_epochs), ("val_interval", val_interval), ("batch_size", batch_size)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"argument {name} must be a whole number of at least 1; got {value!r}")
    if val_interval > max_epochs:
        raise ValueError(
            f"argument val_interval is {val_interval} and max_epochs {max_epochs}: no epoch would be validated, and no "
            f"model saved; give a val_interval of at most {max_epochs}"
        )
    checkpoint, model = training_bytes(network)
    needs = Counter({output_dir: checkpoint})
    # two of them may be one folder
    needs[ckpt_dir] += model
    if cache_dir is not None:
        needs[cache_dir] += cache_bytes(description, len(training) + len(validation), cache_dir)
    require_room(needs)
    for split, items in (("training", training), ("validation", validation)):
        # a host may give items with labels of another form
        if items and all(isinstance(item.get("label"), np.ndarray) for item in items):
            logger.info(str(count_labels(split, items, class_names)))
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    steps = -(-len(training) // batch_size)
    logger.info(f"{millions:.2f} million parameters, {max_epochs} epochs of {steps} steps; files go to {output_dir}")
