"""Random numbers follow from (seed, epoch): a training that was resumed draws what an unbroken one draws.

All sources of a real training are at work: the order of the images, MONAI's random transforms, numpy and Python's own
generator within a transform, and dropout.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import CacheDataset, DataLoader
from monai.engines import SupervisedTrainer
from monai.transforms import Compose, Lambdad, RandGaussianNoised
from torch import nn

from seqnorm_monai.data import SeededItems
from seqnorm_monai.handlers import EpochSeeder, ResumableCheckpoint
from seqnorm_monai.handlers.seeding import epoch_seed

COUNT = 11


def jitter(image: torch.Tensor) -> torch.Tensor:
    return image + np.random.normal() + random.random()


class Seeded(SeededItems, CacheDataset):
    """As a bundle's data set is."""


def loader(num_workers: int, *, seeded: bool = False, **options: object) -> DataLoader:
    """Items that know their number, behind random transforms."""
    generator = torch.Generator().manual_seed(37)
    items = [
        {
            "number": n,
            "image": torch.randn(3, generator=generator),
            "label": torch.randn(2, generator=generator),
        }
        for n in range(COUNT)
    ]
    transforms = Compose([RandGaussianNoised("image", prob=0.7), Lambdad("image", jitter)])
    dataset = (Seeded if seeded else CacheDataset)(items, transforms, progress=False)
    return DataLoader(dataset, batch_size=3, shuffle=True, num_workers=num_workers, **options)


class Training:
    """Trains a small network with dropout, and notes which images each epoch took."""

    def __init__(
        self,
        folder: Path,
        max_epochs: int,
        *,
        num_workers: int = 0,
        seed: int = 5,
        resume: bool = False,
        data: DataLoader | None = None,
    ) -> None:
        torch.manual_seed(41)
        self.network = nn.Sequential(nn.Linear(3, 7), nn.Dropout(0.5), nn.Linear(7, 2))
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.1)
        objects = {"network": self.network, "optimizer": optimizer}
        self.trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=max_epochs,
            train_data_loader=loader(num_workers) if data is None else data,
            network=self.network,
            optimizer=optimizer,
            loss_function=nn.MSELoss(),
            train_handlers=[ResumableCheckpoint(str(folder / "checkpoint.pt"), objects, resume=resume)],
        )
        EpochSeeder(seed).attach(self.trainer)
        self.orders: dict[int, list[int]] = {}
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self._note)

    def _note(self, engine: Engine) -> None:
        self.orders.setdefault(engine.state.epoch, []).extend(item["number"] for item in engine.state.batch)

    def run(self) -> Training:
        self.trainer.run()
        return self

    def weights(self) -> torch.Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in self.network.parameters()])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumed_training_ends_with_the_weights_of_an_unbroken_one(tmp_path: Path, num_workers: int) -> None:
    whole = Training(tmp_path / "whole", 3, num_workers=num_workers).run()
    Training(tmp_path / "parts", 2, num_workers=num_workers).run()
    resumed = Training(tmp_path / "parts", 3, num_workers=num_workers, resume=True).run()
    assert resumed.orders == {3: whole.orders[3]}
    assert torch.equal(resumed.weights(), whole.weights())


@pytest.mark.parametrize("before", [{"num_workers": 0}, {"num_workers": 2}, {"num_workers": 2, "persistent": True}])
def test_neither_number_nor_life_of_the_workers_matters(tmp_path: Path, before: dict[str, Any]) -> None:
    """Resumed with one worker that lives on, after none, two, or two that live on."""

    def training(folder: str, max_epochs: int, *, num_workers: int, persistent: bool = False) -> Training:
        data = loader(num_workers, seeded=True, persistent_workers=persistent)
        resume = (tmp_path / folder).exists()
        return Training(tmp_path / folder, max_epochs, data=data, resume=resume).run()

    whole = training("whole", 5, num_workers=0)
    training("parts", 2, **before)
    resumed = training("parts", 5, num_workers=1, persistent=True)
    assert resumed.orders == {epoch: whole.orders[epoch] for epoch in (3, 4, 5)}
    assert torch.equal(resumed.weights(), whole.weights())


def test_items_are_drawn_anew_in_each_epoch_and_leave_other_numbers_alone() -> None:
    data = loader(0, seeded=True).dataset
    # without a seed, as they come
    assert not torch.equal(data[3]["image"], data[3]["image"])
    data.set_seed(3)
    first = [data[index]["image"] for index in range(COUNT)]
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    expected = torch.rand(1), np.random.rand(), random.random()
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    assert torch.equal(data[-1]["image"], first[-1])
    assert (torch.rand(1), np.random.rand(), random.random()) == expected
    data.set_seed(4)
    assert not any(torch.equal(data[index]["image"], first[index]) for index in range(COUNT))


def test_every_epoch_and_every_seed_has_an_order_of_its_own(tmp_path: Path) -> None:
    trainings = [Training(tmp_path / str(seed), 3, seed=seed).run() for seed in (5, 6)]
    orders = [order for training in trainings for order in training.orders.values()]
    assert all(sorted(order) == list(range(COUNT)) for order in orders)
    assert len({tuple(order) for order in orders}) == 6


def test_what_ran_before_does_not_matter(tmp_path: Path) -> None:
    """Neither numbers drawn before the training nor those of a validation between two epochs."""
    quiet = Training(tmp_path / "quiet", 2).run()
    busy = Training(tmp_path / "busy", 2)
    busy.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: (torch.rand(2), np.random.rand(), random.random()))
    torch.rand(3)
    busy.run()
    assert torch.equal(busy.weights(), quiet.weights())


def test_a_loader_with_a_generator_of_its_own_is_seeded_too(tmp_path: Path) -> None:
    def training(max_epochs: int, state: int, *, resume: bool = False) -> Training:
        data = loader(0, generator=torch.Generator().manual_seed(state))
        return Training(tmp_path, max_epochs, data=data, resume=resume).run()

    whole = training(2, 43)
    training(1, 47)
    assert training(2, 53, resume=True).weights().equal(whole.weights())


def test_seeds_of_neighbours_are_unrelated_and_fit_numpy() -> None:
    seeds = {epoch_seed(seed, epoch, rank) for seed in range(5) for epoch in range(5) for rank in range(3)}
    assert len(seeds) == 75
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert epoch_seed(2**40, 3) != epoch_seed(2**41, 3)


@pytest.mark.parametrize("seed", [-1, 0.5, True, None, "0"])
def test_refuses_what_is_no_seed(seed: object) -> None:
    with pytest.raises(ValueError, match="seed must be an integer of at least 0"):
        EpochSeeder(seed)


def test_refuses_workers_that_outlive_an_epoch(tmp_path: Path) -> None:
    data = loader(1, persistent_workers=True)
    with pytest.raises(ValueError, match="persistent_workers=True"):
        Training(tmp_path, 1, data=data).run()
