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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch import nn

from seqnorm_monai.atomic_files import replacing_bytes
from seqnorm_monai.handlers.model_file import DESCRIPTION, WEIGHTS, load_plain, plain, versions
from seqnorm_monai.handlers.model_loader import require_same
from seqnorm_monai.handlers.restoring import load_states
from seqnorm_monai.handlers.run_lock import RunLock
from seqnorm_monai.paths import require_flag, require_path

logger = logging.getLogger(__name__)


def _save(content: Mapping[str, Any], path: Path) -> None:
    if idist.get_rank() == 0:
        with replacing_bytes(path) as stream:
            torch.save(content, stream)


class BestModelSaver:
    """Write the network's state dict, and what it is for, whenever the evaluator's key metric is the best so far.

    See `seqnorm_monai.handlers.model_file` for the file; it loads with ``weights_only=True``. To the description come
    the epoch, the metric and the versions of torch, MONAI, Python and this package. "Best" is what MONAI's evaluator
    says: its ``state.best_metric_epoch`` is the epoch that just ended.

    Args:
        path: the file to write, for example ``models/model.pt``.
        network: the network, without any wrapper for distributed training.
        description: what it is trained for, in plain data.
    """

    def __init__(self, path: str, network: nn.Module, description: Mapping[str, Any] | None = None) -> None:
        self.path = Path(require_path(path, "path"))
        self.network = network
        self.description = plain(description or {})

    def attach(self, engine: Engine) -> None:
        """To be attached to an evaluator with a key metric."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if engine.state.best_metric_epoch == engine.state.epoch:
            metric = {"name": engine.state.key_metric_name, "value": float(engine.state.best_metric)}
            history = {"epoch": int(engine.state.epoch), "metric": metric, "versions": versions()}
            content = {WEIGHTS: self.network.state_dict(), DESCRIPTION: {**self.description, **history}}
            _save(content, self.path)
            engine.logger.info(f"Saved the best model so far to {self.path}")


class ResumableCheckpoint:
    """After each epoch, write all that a training needs to go on; at the start, go on from it if told to.

    Saved are the state dicts of ``objects``, the trainer's epoch and iteration, its gradient scaler if it has one, the
    best metrics of trainer and evaluator, and whether the training was ended early. Attach it to the trainer after the
    handler that runs the validation, so that the best metric of the epoch is in the file. Random numbers are not
    saved: ``EpochSeeder`` makes them depend on the epoch's number alone.

    A learning rate schedule goes on from the saved step, with the length, warm-up and base rate that it was made with
    now: see `seqnorm_monai.handlers.restoring`. So a training that is resumed with another ``max_epochs`` follows the
    schedule of that length. To resume a training that is over logs so and ends at once, without an error: queues of
    jobs start again what has ended. A training that begins anew removes the checkpoint of an earlier one.

    Args:
        path: the file, for example ``output/training/checkpoint.pt``. Not below ``models``, where hosts offer every
            ``.pt`` file as weights.
        objects: what has a ``state_dict``: network (without wrapper), optimizer, learning rate schedule, a moving
            average of the weights, ignite's ``EarlyStopping``.
        evaluator: the validation's evaluator, whose best metric is carried over; None for a training without any.
        resume: load ``path`` before the first epoch. ``max_epochs`` stays what the trainer was made with.
        lock: that of the folder of ``path``. If a run there was interrupted before it wrote a checkpoint, ``resume``
            begins at the beginning.
        description: what is trained, in plain data, as of `BestModelSaver`; a checkpoint of something else is refused.

    Raises:
        FileNotFoundError: when the training starts, if ``resume`` is asked for, ``path`` does not exist, and no run
            was interrupted there.
        ValueError: when the training starts, if an epoch had another number of iterations, or if something else was
            trained.
    """

    def __init__(
        self,
        path: str,
        objects: Mapping[str, Any],
        evaluator: Engine | None = None,
        resume: bool = False,
        lock: RunLock | None = None,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(require_path(path, "path"))
        self.objects = dict(objects)
        self.evaluator = evaluator
        self.resume = require_flag(resume, "resume")
        self.lock = lock
        self.description = plain(description or {})

    def attach(self, engine: Engine) -> None:
        """To be attached to a trainer."""
        engine.add_event_handler(Events.STARTED, self._resume if self.resume else self._begin)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _everything(self, trainer: Engine) -> dict[str, Any]:
        scaler = getattr(trainer, "scaler", None)
        return {**self.objects, "trainer": trainer, **({} if scaler is None else {"scaler": scaler})}

    def _write(self, trainer: Engine) -> None:
        state = {name: value.state_dict() for name, value in self._everything(trainer).items()}
        if self.evaluator is not None:
            state["best"] = _best(self.evaluator)
        state["train_best"] = _best(trainer)
        state[DESCRIPTION] = self.description
        state["stopped"] = bool(trainer.should_terminate)
        _save(state, self.path)

    def _begin(self) -> None:
        # killed before its first checkpoint, this training would otherwise be resumed from that of another one
        if idist.get_rank() == 0:
            self.path.unlink(missing_ok=True)

    def _resume(self, trainer: Engine) -> None:
        if not self.path.is_file():
            self._begin_again()
            return
        state = load_plain(self.path, trainer.state.device)
        require_same(self.path, state.get(DESCRIPTION) or {}, self.description, "give the options of that training")
        max_epochs, epoch_length = trainer.state.max_epochs, trainer.state.epoch_length
        if state["trainer"]["epoch_length"] != epoch_length:
            raise ValueError(
                f"{self.path}: was written with {state['trainer']['epoch_length']} iterations an epoch, now there are "
                f"{epoch_length}: resume with the same data and batch size, or start anew"
            )
        objects = self._everything(trainer)
        if "scaler" not in state and objects.pop("scaler", None) is not None:
            logger.warning(f"{self.path}: was written without mixed precision; its gradient scaler begins anew")
        load_states(objects, state)
        trainer.state.max_epochs = max_epochs
        _set_best(trainer, state.get("train_best"))
        if self.evaluator is not None:
            _set_best(self.evaluator, state.get("best"))
        epoch = trainer.state.epoch
        # one that was ended early goes on if it is given more epochs
        if epoch >= max_epochs or (state.get("stopped") and max_epochs <= state["trainer"]["max_epochs"]):
            logger.info(
                f"{self.path}: the training already ended after {epoch} epochs, nothing is left to do; "
                f"to go on, set max_epochs above {max(epoch, max_epochs)} (it is {max_epochs})"
            )
            trainer.terminate()
        else:
            logger.info(f"Resumed from {self.path} after epoch {epoch}")

    def _begin_again(self) -> None:
        if self.lock is None or not self.lock.interrupted:
            raise FileNotFoundError(f"{self.path}: there is no checkpoint to resume from; train without resume first")
        logger.info(f"{self.path}: the run before ended within its first epoch; the training begins at the beginning")


def _best(engine: Engine) -> dict[str, float]:
    return {"metric": float(engine.state.best_metric), "epoch": int(engine.state.best_metric_epoch)}


def _set_best(engine: Engine, best: Mapping[str, float] | None) -> None:
    if best is not None:
        engine.state.best_metric = best["metric"]
        engine.state.best_metric_epoch = best["epoch"]
