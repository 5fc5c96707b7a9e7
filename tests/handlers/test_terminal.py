"""Log lines stand above a progress bar, not in the middle of it; a training logs a line an epoch."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from torch import nn

from seqnorm_monai.handlers import HistoryWriter, LogAboveBars


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def terminal() -> Iterator[Terminal]:
    """A terminal that shows both streams, and a root logger that writes to it alone."""
    screen = Terminal()
    handlers, level = logging.root.handlers, logging.root.level
    with redirect_stdout(screen), redirect_stderr(screen):
        logging.root.handlers = [logging.StreamHandler(sys.stdout)]
        logging.root.setLevel(logging.INFO)
        try:
            yield screen
        finally:
            logging.root.handlers = handlers
            logging.root.setLevel(level)


def engine_with_a_bar(*handlers: object) -> Engine:
    engine = Engine(lambda _engine, _batch: None)
    engine.logger.setLevel(logging.WARNING)
    for handler in handlers:
        handler.attach(engine)
    ProgressBar(desc="training", disable=None).attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(every=3), lambda: logging.info("a line"))
    return engine


def test_log_lines_stand_above_the_bar() -> None:
    with terminal() as screen:
        engine_with_a_bar(LogAboveBars()).run(range(6), max_epochs=1)
    pieces = screen.getvalue().replace("\r", "\n").split("\n")
    assert [piece for piece in pieces if "a line" in piece] == ["a line", "a line"]
    assert any("/6]" in piece for piece in pieces)


def test_without_the_handler_they_stand_in_it() -> None:
    """That the test above can fail."""
    with terminal() as screen:
        engine_with_a_bar().run(range(6), max_epochs=1)
    pieces = screen.getvalue().replace("\r", "\n").split("\n")
    assert any("a line" in piece and piece != "a line" for piece in pieces)


def test_handlers_are_put_back() -> None:
    with terminal():
        before = list(logging.root.handlers)
        engine_with_a_bar(LogAboveBars()).run(range(3), max_epochs=2)
        assert logging.root.handlers == before


def test_an_epoch_is_one_line_of_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = nn.Linear(3, 2)
    items = [{"image": torch.ones(3), "label": torch.zeros(2)}] * 5
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=3,
        train_data_loader=DataLoader(Dataset(items), batch_size=2),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.25),
        loss_function=nn.MSELoss(),
        train_handlers=[HistoryWriter(tmp_path / "history.csv")],
    )
    with caplog.at_level(logging.INFO, logger="seqnorm_monai"):
        trainer.run()
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("seqnorm_monai")]
    assert [line.split(":")[0] for line in lines] == ["epoch 1 of 3", "epoch 2 of 3", "epoch 3 of 3"]
    assert all("train_loss " in line and "learning_rate 2.50e-01" in line for line in lines)
