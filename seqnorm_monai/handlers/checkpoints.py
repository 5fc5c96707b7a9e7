"""Two files a training leaves behind: the best model, and the last state from which it can go on.

MONAI's ``CheckpointSaver`` writes in place and forgets on resuming which metric was the best so far. Ignite's
``Checkpoint`` with ``DiskSaver(atomic=True)`` replaces the file, but moves it there before its bytes are on the disk
(no ``fsync``), leaves one more temporary file for each kill, and makes its folder when it is made itself, so that
parsing a configuration would write. Here every file appears whole or not at all, so a kill at any moment leaves the
previous one, and a resumed training goes on comparing with the best of the whole training.

With several processes the first one writes, and all of them load.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from seqnorm_monai.atomic_files import replacing_bytes
from seqnorm_monai.paths import require_path

logger = logging.getLogger(__name__)


def _save(content: Mapping[str, Any], path: Path) -> None:
    if idist.get_rank() == 0:
        with replacing_bytes(path) as stream:
            torch.save(content, stream)


class BestModelSaver:
    """Write the network's state dict whenever the evaluator's key metric is the best so far.

    The file holds plain tensors and loads with ``weights_only=True``. "Best" is what MONAI's evaluator says: its
    ``state.best_metric_epoch`` is the epoch that just ended.

    Args:
        path: the file to write, for example ``models/model.pt``.
        network: the network, without any wrapper for distributed training.
    """

    def __init__(self, path: str, network: nn.Module) -> None:
        self.path = Path(require_path(path, "path"))
        self.network = network

    def attach(self, engine: Engine) -> None:
        """To be attached to an evaluator with a key metric."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if engine.state.best_metric_epoch == engine.state.epoch:
            _save(self.network.state_dict(), self.path)
            engine.logger.info(f"Saved the best model so far to {self.path}")


class ResumableCheckpoint:
    """After each epoch, write all that a training needs to go on; at the start, go on from it if told to.

    Saved are the state dicts of ``objects``, the trainer's epoch and iteration, its gradient scaler if it has one, and
    the evaluator's best metric. Attach it to the trainer after the handler that runs the validation, so that
    the best metric of the epoch is in the file. Random numbers are not saved: ``EpochSeeder`` makes them depend on the
    epoch's number alone.

    A learning rate schedule goes on from the saved step, with the length, warm-up and base rate that it was made with
    now. So a training that is resumed with another ``max_epochs`` follows the schedule of that length.

    Args:
        path: the file, for example ``output/training/checkpoint.pt``. Not below ``models``, where hosts offer every
            ``.pt`` file as weights.
        objects: what has a ``state_dict``: network (without wrapper), optimizer, learning rate schedule.
        evaluator: the validation's evaluator, whose best metric is carried over; None for a training without any.
        resume: load ``path`` before the first epoch. ``max_epochs`` stays what the trainer was made with.

    Raises:
        FileNotFoundError: when the training starts, if ``resume`` is asked for and ``path`` does not exist.
        ValueError: when the training starts, if the checkpoint's epoch is already ``max_epochs`` or beyond, or if an
            epoch had another number of iterations.
    """

    def __init__(
        self, path: str, objects: Mapping[str, Any], evaluator: Engine | None = None, resume: bool = False
    ) -> None:
        self.path = Path(require_path(path, "path"))
        self.objects = dict(objects)
        self.evaluator = evaluator
        self.resume = resume

    def attach(self, engine: Engine) -> None:
        """To be attached to a trainer."""
        if self.resume:
            engine.add_event_handler(Events.STARTED, self._resume)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _everything(self, trainer: Engine) -> dict[str, Any]:
        scaler = getattr(trainer, "scaler", None)
        return {**self.objects, "trainer": trainer, **({} if scaler is None else {"scaler": scaler})}

    def _write(self, trainer: Engine) -> None:
        state = {name: value.state_dict() for name, value in self._everything(trainer).items()}
        if self.evaluator is not None:
            best = self.evaluator.state
            state["best"] = {"metric": float(best.best_metric), "epoch": int(best.best_metric_epoch)}
        _save(state, self.path)

    def _resume(self, trainer: Engine) -> None:
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: there is no checkpoint to resume from; train without resume first")
        state = torch.load(self.path, map_location=trainer.state.device, weights_only=True)
        max_epochs, epoch_length = trainer.state.max_epochs, trainer.state.epoch_length
        if state["trainer"]["epoch_length"] != epoch_length:
            raise ValueError(
                f"{self.path}: was written with {state['trainer']['epoch_length']} iterations an epoch, now there are "
                f"{epoch_length}: resume with the same data and batch size, or start anew"
            )
        _load(self._everything(trainer), state)
        if trainer.state.epoch >= max_epochs:
            raise ValueError(
                f"{self.path}: the training already ended after {trainer.state.epoch} epochs; "
                f"to go on, set max_epochs above that (it is {max_epochs})"
            )
        trainer.state.max_epochs = max_epochs
        if self.evaluator is not None and "best" in state:
            self.evaluator.state.best_metric = state["best"]["metric"]
            self.evaluator.state.best_metric_epoch = state["best"]["epoch"]
        logger.info(f"Resumed from {self.path} after epoch {trainer.state.epoch}")


def _load(objects: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """The saved states; of a schedule only its step, since its state would bring the old length back."""
    schedules = {
        name: value
        for name, value in objects.items()
        # a plateau is found by what was measured, not by counting steps; a chain of schedules counts none
        if isinstance(value, LRScheduler) and not isinstance(value, ReduceLROnPlateau) and "last_epoch" in state[name]
    }
    for name, schedule in schedules.items():
        with warnings.catch_warnings():
            # torch warns of steps of a schedule before any of the optimizer; those of the optimizer are in the file
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step", category=UserWarning)
            for _ in range(state[name]["last_epoch"] - schedule.last_epoch):
                schedule.step()
    Checkpoint.load_objects({name: value for name, value in objects.items() if name not in schedules}, state)
    for schedule in schedules.values():
        # the optimizer's state has the rate of the old schedule
        for group, rate in zip(schedule.optimizer.param_groups, schedule.get_last_lr(), strict=True):
            group["lr"] = rate
