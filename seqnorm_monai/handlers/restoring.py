"""The states of a checkpoint, put into objects that may have been made with other settings."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from ignite.handlers import Checkpoint
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

# what a training may be resumed with another value of
_OPTIONS = ("lr", "initial_lr", "weight_decay")


def load_states(objects: Mapping[str, Any], states: Mapping[str, Any]) -> None:
    """Load the saved states; of a learning rate schedule only its step, since its state would bring the old one back.

    The schedule goes on from the saved step with the length, warm-up and base rate that it was made with now, so its
    rate is what its formula gives for that step. The weight decay of its optimizer is that of now, too. A schedule
    that counts no steps (`ReduceLROnPlateau`, a chain) is loaded as it was, with its optimizer's rate.
    """
    schedules = {name: value for name, value in objects.items() if _counts_steps(value, states.get(name))}
    for name, schedule in schedules.items():
        with warnings.catch_warnings():
            # torch warns of steps of a schedule before any of the optimizer; those of the optimizer are in the file
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step", category=UserWarning)
            for _ in range(states[name]["last_epoch"] - schedule.last_epoch):
                schedule.step()
    options = {name: _options(schedule.optimizer) for name, schedule in schedules.items()}
    Checkpoint.load_objects({name: value for name, value in objects.items() if name not in schedules}, states)
    for name, schedule in schedules.items():
        for group, values in zip(schedule.optimizer.param_groups, options[name], strict=True):
            group.update(values)


def _counts_steps(value: object, state: Mapping[str, Any] | None) -> bool:
    if not isinstance(value, LRScheduler) or isinstance(value, ReduceLROnPlateau):
        return False
    return state is not None and "last_epoch" in state


def _options(optimizer: Optimizer) -> list[dict[str, Any]]:
    return [{name: group[name] for name in _OPTIONS if name in group} for group in optimizer.param_groups]
