"""The course of a training, one row per epoch."""

import csv
import logging
import math
import os
import time
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from seqnorm_monai.atomic_files import replacing
from seqnorm_monai.paths import require_path

logger = logging.getLogger(__name__)


class HistoryWriter:
    """`history.csv` of a trainer: one row per epoch, in the file as soon as the epoch is over.

    Columns: `epoch`; `iteration`, of the whole training; `train_loss`, the mean over the epoch's images;
    `learning_rate` of the last step (first parameter group); `seconds` of the epoch's iterations, without a validation
    after them; and the scalar metrics of the `evaluator`, if it ran in that epoch, under their names.

    A trainer that starts at epoch k > 0 keeps the rows up to k of the file and adds to them; otherwise the file is
    new. It goes before a `ResumableCheckpoint`, so that a kill between the two leaves a row too many, which the resumed
    training replaces, and none too few; and before a `ValidationHandler` with `exec_at_start`, whose metrics are then
    in the row of epoch k. Otherwise its place among the handlers does not matter. The file is replaced as a whole: a
    kill costs at most the current epoch. Each epoch is a line of the log, too.

    Raises `ValueError` when the file to be continued has no column `epoch`, or a metric is named like a column above.
    """

    COLUMNS = ("epoch", "iteration", "train_loss", "learning_rate", "seconds")

    def __init__(self, path: str | os.PathLike[str], *, evaluator: Engine | None = None) -> None:
        self.path = Path(require_path(path, "path"))
        self.evaluator = evaluator
        self._rows: dict[int, dict[str, Any]] = {}
        self._validation: dict[int, dict[str, float]] = {}
        self._running = self._loaded = False
        self._losses: list[float] = []
        self._learning_rate = self._begin = self._end = 0.0

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        engine.add_event_handler(Events.ITERATION_STARTED, self._note_learning_rate)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish_epoch)
        engine.add_event_handler(Events.COMPLETED, self._finish)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.COMPLETED, self._take_validation)

    def _start(self, _engine: Engine) -> None:
        self._running, self._loaded, self._validation = True, False, {}

    def _finish(self, _engine: Engine) -> None:
        self._running = False

    def _start_epoch(self, engine: Engine) -> None:
        # not at STARTED: there a checkpoint may still set the epoch
        if not self._loaded:
            self._rows = self._kept(engine.state.epoch - 1)
            self._loaded = True
            for epoch in self._validation:
                self._rows.setdefault(epoch, {"epoch": epoch, "iteration": engine.state.iteration})
        self._losses = []
        self._begin = self._end = time.perf_counter()

    def _note_learning_rate(self, engine: Engine) -> None:
        # before the step: a scheduler may change it right after
        self._learning_rate = engine.optimizer.param_groups[0]["lr"]

    def _collect(self, engine: Engine) -> None:
        outputs = engine.state.output if isinstance(engine.state.output, list) else [engine.state.output]
        self._losses += [float(output["loss"]) for output in outputs]
        self._end = time.perf_counter()

    def _finish_epoch(self, engine: Engine) -> None:
        mean = sum(self._losses) / len(self._losses) if self._losses else math.nan
        seconds = round(self._end - self._begin, 3)
        values = (engine.state.epoch, engine.state.iteration, mean, self._learning_rate, seconds)
        self._rows[engine.state.epoch] = dict(zip(self.COLUMNS, values, strict=True))
        self._write()
        self._log(engine)

    def _log(self, engine: Engine) -> None:
        epoch = engine.state.epoch
        row = self._rows[epoch]
        metrics = (f"{name} {value:.4f}" for name, value in self._validation.get(epoch, {}).items())
        texts = [f"train_loss {row['train_loss']:.4f}", *metrics, f"learning_rate {row['learning_rate']:.2e}"]
        best = getattr(self.evaluator, "state", None)
        if best is not None and epoch == getattr(best, "best_metric_epoch", None):
            texts.append("the best so far")
        logger.info(f"epoch {epoch} of {engine.state.max_epochs}: {', '.join(texts)}, {row['seconds']:.1f} s")

    def _take_validation(self, evaluator: Engine) -> None:
        # an evaluation of its own, outside a training, is no part of the history
        if not self._running:
            return
        metrics = {name: float(value) for name, value in evaluator.state.metrics.items() if _is_scalar(value)}
        clash = sorted(set(metrics) & set(self.COLUMNS))
        if clash:
            raise ValueError(f"metric {', '.join(clash)} is named like a column of {self.path}; give it another name")
        self._validation[evaluator.state.epoch] = metrics
        if evaluator.state.epoch in self._rows:
            self._write()

    def _write(self) -> None:
        for epoch, metrics in self._validation.items():
            self._rows.get(epoch, {}).update(metrics)
        columns = dict.fromkeys([*self.COLUMNS, *(name for row in self._rows.values() for name in row)])
        with replacing(self.path) as stream:
            writer = csv.DictWriter(stream, list(columns), restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self._rows[epoch] for epoch in sorted(self._rows))

    def _kept(self, last: int) -> dict[int, dict[str, Any]]:
        """The rows of the file up to epoch `last`; none for a new training."""
        if last < 1 or not self.path.exists():
            return {}
        with self.path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        try:
            return {int(row["epoch"]): dict(row) for row in rows if int(row["epoch"]) <= last}
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.path}: is no history to continue (no number in column epoch); move it") from error


def _is_scalar(value: object) -> bool:
    return isinstance(value, (int, float)) or (isinstance(value, torch.Tensor) and value.numel() == 1)
