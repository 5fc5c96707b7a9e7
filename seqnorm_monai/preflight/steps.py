"""Three real steps of the training on this machine: how long an epoch will take, and how much memory it needs."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser

NUM_STEPS = 3


@dataclass(frozen=True)
class StepTimes:
    """Seconds of a training step (augmentation, forward, backward, update) and of a step of the validation.

    `memory`: bytes that the process (without a GPU) or the GPU held at most, `on_gpu` says which.
    """

    training: float
    validation: float
    memory: int
    on_gpu: bool


def time_steps(parser: ConfigParser, samples: Sequence[dict[str, Any]]) -> StepTimes:
    """Run the configuration's own trainer for three steps, and its evaluator for one, on items that were read before.

    Nothing is written: the handlers of the configuration are left out. The first step, which also finds algorithms and
    fills memory, is not counted.
    """
    batch_size = int(parser.get_parsed_content("batch_size"))
    enough = (list(samples) * (NUM_STEPS * batch_size // max(1, len(samples)) + 1))[: NUM_STEPS * batch_size]
    _simplify(parser, enough, batch_size)
    device = parser.get_parsed_content("device")
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    training = _timed(parser.get_parsed_content("train#trainer"), on_gpu)
    validation = _timed(parser.get_parsed_content("validate#evaluator"), on_gpu)
    memory = torch.cuda.max_memory_reserved(device) if on_gpu else peak_memory()
    return StepTimes(min(training[1:]), validation[-1], memory, on_gpu)


def _simplify(parser: ConfigParser, samples: Sequence[dict[str, Any]], batch_size: int) -> None:
    """The configuration without its data and handlers; the random transforms stay."""
    # items are decoded and resized already
    for section, transforms, items in (
        ("train", "$@train#random_transforms", samples),
        ("validate", [], samples[: 2 * batch_size]),
    ):
        parser[f"{section}#preprocessing#transforms"] = transforms
        parser[f"{section}#dataset"] = {"_target_": "Dataset", "transform": f"@{section}#preprocessing"}
        parser[f"{section}#dataset#data"] = list(items)
        parser[f"{section}#dataloader#num_workers"] = 0
        parser[f"{section}#handlers"] = []
    parser["validate#key_metric"] = None
    parser["train#key_metric"] = None
    parser["train#trainer#max_epochs"] = 1


def _timed(engine: Engine, on_gpu: bool) -> list[float]:
    """Seconds of each iteration of a run, with the reading of its batch."""
    moments = [time.perf_counter()]

    def note(_engine: Engine) -> None:
        if on_gpu:
            torch.cuda.synchronize()
        moments.append(time.perf_counter())

    engine.add_event_handler(Events.ITERATION_COMPLETED, note)
    engine.run()
    return [after - before for before, after in pairwise(moments)]


def peak_memory() -> int:
    """The most memory in bytes that this process has held; 0 on systems that do not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
