"""A training that is stopped and resumed ends where an unbroken one ends, and keeps the best model of the whole."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from ignite.handlers import EarlyStopping, EMAHandler
from ignite.metrics import Average
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler, ValidationHandler, from_engine
from monai.optimizers import WarmupCosineSchedule
from torch import nn

from seqnorm_monai.handlers import BestModelSaver, ModelFileError, ResumableCheckpoint, RunLock, read_model


def data(count: int = 7) -> DataLoader:
    generator = torch.Generator().manual_seed(29)
    items = [{"image": torch.randn(3, generator=generator), "label": torch.randn(2, generator=generator)}] * count
    return DataLoader(Dataset(items), batch_size=3)


class Training:
    """MONAI's engines over a linear network, with a validation score that the test dictates epoch by epoch."""

    def __init__(
        self,
        folder: Path,
        scores: list[float],
        *,
        max_epochs: int,
        resume: bool = False,
        count: int = 7,
        lock: RunLock | None = None,
        description: dict[str, object] | None = None,
    ) -> None:
        torch.manual_seed(31)
        self.network = nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.7)
        score = Average(output_transform=lambda _: scores[self.evaluator.state.epoch - 1])
        self.evaluator = SupervisedEvaluator(
            device=torch.device("cpu"),
            val_data_loader=data(),
            network=self.network,
            key_val_metric={"score": score},
            val_handlers=[BestModelSaver(str(folder / "model.pt"), self.network, description)],
        )
        self.checkpoint = ResumableCheckpoint(
            str(folder / "checkpoint.pt"),
            {"network": self.network, "optimizer": optimizer, "lr_scheduler": scheduler},
            self.evaluator,
            resume,
            lock,
            description,
        )
        self.trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=max_epochs,
            train_data_loader=data(count),
            network=self.network,
            optimizer=optimizer,
            loss_function=nn.MSELoss(),
            train_handlers=[
                ValidationHandler(interval=1, validator=self.evaluator),
                LrScheduleHandler(scheduler, print_lr=False),
                *([] if lock is None else [lock]),
                self.checkpoint,
            ],
        )
        self.losses: list[float] = []
        loss = from_engine(["loss"], first=True)
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: self.losses.append(loss(e.state.output)))

    def run(self) -> Training:
        self.trainer.run()
        return self


SCORES = [0.3, 0.8, 0.5, 0.6, 0.7]


def test_resumed_training_equals_an_unbroken_one(tmp_path: Path) -> None:
    whole = Training(tmp_path / "whole", SCORES, max_epochs=5).run()
    Training(tmp_path / "parts", SCORES, max_epochs=2).run()
    resumed = Training(tmp_path / "parts", SCORES, max_epochs=5, resume=True).run()
    assert resumed.trainer.state.epoch == 5
    assert resumed.losses == whole.losses[-len(resumed.losses) :]
    assert len(resumed.losses) == 3 * 3
    for ours, theirs in zip(resumed.network.parameters(), whole.network.parameters()):
        assert torch.equal(ours, theirs)


def test_best_model_is_the_best_of_the_whole_training(tmp_path: Path) -> None:
    """Epoch 2 scores best; no epoch after resuming may replace its model."""
    first = Training(tmp_path, SCORES, max_epochs=2).run()
    best = {name: value.clone() for name, value in first.network.state_dict().items()}
    resumed = Training(tmp_path, SCORES, max_epochs=5, resume=True).run()
    saved, _ = read_model(tmp_path / "model.pt")
    assert all(torch.equal(saved[name], best[name]) for name in best)
    assert resumed.evaluator.state.best_metric_epoch == 2
    assert any(not torch.equal(saved[name], value) for name, value in resumed.network.state_dict().items())


def test_a_fresh_training_ignores_an_old_checkpoint(tmp_path: Path) -> None:
    one = Training(tmp_path, SCORES, max_epochs=2).run()
    two = Training(tmp_path, SCORES, max_epochs=2).run()
    assert one.losses == two.losses


def test_refusals_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint to resume from"):
        Training(tmp_path, SCORES, max_epochs=2, resume=True).run()
    Training(tmp_path, SCORES, max_epochs=2).run()
    with pytest.raises(ValueError, match="3 iterations an epoch"):
        Training(tmp_path, SCORES, max_epochs=5, resume=True, count=11).run()


@pytest.mark.parametrize("max_epochs", [1, 2])
def test_a_training_that_is_over_says_so_and_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, max_epochs: int
) -> None:
    first = Training(tmp_path, SCORES, max_epochs=2).run()
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with caplog.at_level("INFO"):
        again = Training(tmp_path, SCORES, max_epochs=max_epochs, resume=True).run()
    assert re.search(r"checkpoint\.pt: the training already ended after 2 epochs.* set max_epochs above 2", caplog.text)
    assert again.losses == []
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    for ours, theirs in zip(again.network.parameters(), first.network.parameters()):
        assert torch.equal(ours, theirs)


def test_a_new_training_leaves_no_checkpoint_of_an_earlier_one(tmp_path: Path) -> None:
    """Killed in its first epoch, it would be resumed from there."""
    Training(tmp_path, SCORES, max_epochs=2).run()
    second = Training(tmp_path, SCORES, max_epochs=2)
    found = []
    second.trainer.add_event_handler(Events.ITERATION_STARTED(once=1), lambda: found.extend(tmp_path.glob("check*")))
    second.run()
    assert found == []


def test_a_run_that_was_interrupted_in_its_first_epoch_begins_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lock = RunLock([tmp_path])
    (tmp_path / ".lock").touch()
    with caplog.at_level("INFO"):
        resumed = Training(tmp_path, SCORES, max_epochs=2, resume=True, lock=lock).run()
    assert "the run before ended within its first epoch" in caplog.text
    assert resumed.losses == Training(tmp_path / "other", SCORES, max_epochs=2).run().losses
    assert not (tmp_path / ".lock").exists()


def test_model_file_says_what_it_is_for_and_where_it_comes_from(tmp_path: Path) -> None:
    given = {"class_names": ("a", "b"), "image_size": 64, "spacing": None}
    Training(tmp_path, SCORES, max_epochs=3, description=given).run()
    _, description = read_model(tmp_path / "model.pt")
    assert {name: description[name] for name in given} == {**given, "class_names": ["a", "b"]}
    assert description["epoch"] == 2
    assert description["metric"] == {"name": "score", "value": pytest.approx(0.8)}
    assert description["versions"]["torch"] == torch.__version__
    assert torch.load(tmp_path / "model.pt", weights_only=True).keys() == {"model", "description"}


def test_a_checkpoint_of_another_training_is_not_gone_on_with(tmp_path: Path) -> None:
    Training(tmp_path, SCORES, max_epochs=2, description={"class_names": ["a", "b"]}).run()
    with pytest.raises(ModelFileError, match=r"checkpoint\.pt: .* class_names was \['a', 'b'\] .* is \['b', 'a'\] now"):
        Training(tmp_path, SCORES, max_epochs=3, resume=True, description={"class_names": ["b", "a"]}).run()


def test_a_checkpoint_that_is_cut_off_is_named(tmp_path: Path) -> None:
    Training(tmp_path, SCORES, max_epochs=2).run()
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ModelFileError, match=r"checkpoint\.pt: is damaged"):
        Training(tmp_path, SCORES, max_epochs=3, resume=True).run()


class Stopping(Training):
    """With ignite's early stop after two epochs without a better score, and a moving average of the weights."""

    def __init__(self, folder: Path, *, max_epochs: int, resume: bool = False) -> None:
        super().__init__(folder, [0.5, 0.8, 0.6, 0.7, 0.5, 0.9], max_epochs=max_epochs, resume=resume)
        score = lambda engine: engine.state.metrics["score"]  # noqa: E731
        stop = EarlyStopping(2, score, self.trainer)
        self.evaluator.add_event_handler(Events.COMPLETED, stop)
        average = EMAHandler(self.network, momentum=0.3)
        average.attach(self.trainer)
        self.average = average.ema_model
        self.checkpoint.objects |= {"stop": stop, "average": self.average}


def test_early_stop_and_moving_average_are_carried_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Scores fall after epoch 2: the end comes after epoch 4, wherever the training was stopped before."""
    whole = Stopping(tmp_path / "whole", max_epochs=6).run()
    assert whole.trainer.state.epoch == 4
    Stopping(tmp_path / "parts", max_epochs=3).run()
    resumed = Stopping(tmp_path / "parts", max_epochs=6, resume=True).run()
    assert resumed.trainer.state.epoch == 4
    for ours, theirs in zip(resumed.average.parameters(), whole.average.parameters()):
        assert torch.equal(ours, theirs)
    with caplog.at_level("INFO"):
        assert Stopping(tmp_path / "parts", max_epochs=6, resume=True).run().losses == []
    assert "already ended after 4 epochs" in caplog.text
    assert Stopping(tmp_path / "parts", max_epochs=7, resume=True).run().losses != []


class Scheduled:
    """A training whose learning rate warms up over 2 of 3 iterations an epoch and ends at 0 after its last one."""

    def __init__(
        self,
        path: Path,
        max_epochs: int,
        *,
        rate: float = 0.1,
        decay: float = 0.01,
        warmup: int = 2,
        resume: bool = False,
    ) -> None:
        network = nn.Linear(3, 2)
        self.optimizer = optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
        schedule = WarmupCosineSchedule(optimizer, warmup, 3 * max_epochs, warmup_multiplier=0.01)
        objects = {"network": network, "optimizer": optimizer, "lr_scheduler": schedule}
        self.trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=max_epochs,
            train_data_loader=data(),
            network=network,
            optimizer=optimizer,
            loss_function=nn.MSELoss(),
            train_handlers=[
                LrScheduleHandler(schedule, print_lr=False, epoch_level=False),
                ResumableCheckpoint(str(path), objects, resume=resume),
            ],
        )
        self.rates: list[float] = []
        self.trainer.add_event_handler(
            Events.ITERATION_STARTED, lambda: self.rates.append(optimizer.param_groups[0]["lr"])
        )

    def run(self) -> list[float]:
        self.trainer.run()
        return self.rates


@pytest.mark.parametrize("rate", [0.1, 0.03])
@pytest.mark.parametrize("max_epochs", [3, 7])
def test_resumed_with_another_length_or_rate_follows_that_schedule(
    tmp_path: Path, max_epochs: int, rate: float
) -> None:
    """From the old position on: rate * (1 + cos(pi * (step - warm-up) / (length - warm-up))) / 2."""
    path = tmp_path / "checkpoint.pt"
    Scheduled(path, 2).run()
    rates = Scheduled(path, max_epochs, rate=rate, resume=True).run()
    length = 3 * max_epochs
    expected = [rate * (1 + math.cos(math.pi * (step - 2) / (length - 2))) / 2 for step in range(6, length)]
    assert rates == pytest.approx(expected, rel=1e-12)


def test_resumed_within_a_longer_warmup_and_with_another_weight_decay(tmp_path: Path) -> None:
    """The rate rises from 1 % of it over the 11 steps of now, of which 6 are done; then it falls."""
    path = tmp_path / "checkpoint.pt"
    Scheduled(path, 2).run()
    resumed = Scheduled(path, 4, warmup=11, decay=0.3, resume=True)
    assert resumed.run() == pytest.approx([0.1 * (0.01 + 0.99 * step / 11) for step in range(6, 11)] + [0.1], rel=1e-12)
    assert resumed.optimizer.param_groups[0]["weight_decay"] == 0.3


def test_of_several_processes_only_the_first_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    Scheduled(tmp_path / "checkpoint.pt", 1).run()
    assert not os.listdir(tmp_path)
