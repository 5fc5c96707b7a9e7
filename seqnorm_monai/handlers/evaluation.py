"""Metrics with intervals at the end of an evaluator's run."""

import logging
import os
from collections.abc import Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events

from seqnorm_monai.evaluation import evaluate, text_table, write_metrics
from seqnorm_monai.handlers.outputs import decollated, probabilities_of
from seqnorm_monai.paths import require_path

logger = logging.getLogger(__name__)


class EvaluationWriter:
    """`metrics.json` and `metrics.csv` of an evaluator's run, and the same as a dict in `engine.state.evaluation`.

    Gathers `pred` and `label` of the engine's output and `patient` of its batch, and evaluates them at the end: see
    `seqnorm_monai.evaluation.evaluate` for numbers and errors. A short table is logged.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        class_names: Sequence[str],
        *,
        num_bootstrap: int,
        confidence: float,
        seed: int,
    ) -> None:
        self.output_dir = require_path(output_dir, "output_dir")
        self.class_names = list(class_names)
        self._numbers: dict[str, Any] = {"num_bootstrap": num_bootstrap, "confidence": confidence, "seed": seed}
        self._rows: list[tuple[list[float], list[float], str]] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, _engine: Engine) -> None:
        self._rows = []

    def _collect(self, engine: Engine) -> None:
        for item, output in zip(*decollated(engine), strict=True):
            label = torch.as_tensor(output["label"]).flatten().tolist()
            self._rows.append((probabilities_of(output, self.class_names), label, item["patient"]))

    def _finish(self, engine: Engine) -> None:
        if not self._rows:
            raise ValueError("nothing to evaluate: the run gave no image")
        probabilities, labels, patients = zip(*self._rows, strict=True)
        metrics = evaluate(probabilities, labels, patients, self.class_names, **self._numbers)
        write_metrics(metrics, self.output_dir)
        engine.state.evaluation = metrics
        logger.info("evaluation in %s\n%s", self.output_dir, text_table(metrics))
