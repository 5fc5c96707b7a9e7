"""What an engine's state holds after an iteration, item by item."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from ignite.engine import Engine


def decollated(engine: Engine) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    batch, output = engine.state.batch, engine.state.output
    if not isinstance(batch, list) or not isinstance(output, list):
        raise TypeError("this handler needs the samples one by one: leave decollate of the engine at true")
    return batch, output


def probabilities_of(output: dict[str, Any], class_names: Sequence[str]) -> list[float]:
    """`pred` of one image; NaN and infinities pass, as they are the image's own fault."""
    pred = torch.as_tensor(output["pred"])
    if pred.ndim != 1 or len(pred) != len(class_names):
        raise ValueError(f"pred must have the shape ({len(class_names)},), one per class; got {tuple(pred.shape)}")
    values = pred.float().tolist()
    wrong = [value for value in values if math.isfinite(value) and not 0 <= value <= 1]
    if wrong:
        raise ValueError(f"pred must be probabilities in [0, 1]; got {wrong[0]}: add a sigmoid to the postprocessing")
    return values
