"""Random numbers that depend on the epoch's number and not on what ran before it."""

from __future__ import annotations

import random

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd
from torch.utils.data import DataLoader

from seqnorm_monai.data.seeding import SeededItems, derived_seed


def epoch_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """The seed of one epoch of one process: see `derived_seed`."""
    return derived_seed(seed, epoch, rank)


class EpochSeeder:
    """Seed all random numbers of a training from (seed, epoch) when an epoch starts.

    The order of the images, their augmentation, dropout and stochastic depth of an epoch are then the same whether the
    training ran through or was stopped and resumed, and a checkpoint needs no random state.

    Seeded are torch on every device (which also draws the order of the images and the seeds of the data loader's
    workers), numpy, Python's ``random``, a generator of the data loader's own, and the transforms of its data set.
    Ignite makes the iterator of an epoch after ``EPOCH_STARTED``, so everything it draws comes from these seeds. This
    holds as long as an epoch is one pass over the data loader, as MONAI's trainer has it by default.

    The data set of the loader should have `SeededItems`, as `CachedDataset` has. Then workers may live on from one
    epoch to the next, and their number changes nothing. With any other data set a training must be resumed with as many
    workers.

    Each process of a distributed training has random numbers of its own, so that the copies of a network do not drop
    the same paths; a ``DistributedSampler`` has its own seed and shares the images out as before.

    Args:
        seed: the training's seed, at least 0.

    Raises:
        ValueError: if ``seed`` is not such a number; when the training starts, if the data loader keeps its workers
            from one epoch to the next and its data set has no `SeededItems`, because their random states cannot be
            reached.
    """

    def __init__(self, seed: int) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"argument seed must be an integer of at least 0; got {seed!r}")
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """To be attached to a trainer; its place among the handlers does not matter."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        loader = engine.state.dataloader
        seed = epoch_seed(self.seed, engine.state.epoch, idist.get_rank())
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        if getattr(loader, "generator", None) is not None:
            loader.generator.manual_seed(seed)
        dataset = getattr(loader, "dataset", None)
        if isinstance(dataset, SeededItems):
            dataset.set_seed(seed)
            _draw_as_a_new_iterator(loader)
        elif getattr(loader, "persistent_workers", False):
            raise ValueError(
                "the data loader has persistent_workers=True: its workers' random states go on from epoch to epoch "
                "and a resumed training could not repeat them; set it to False, or use a data set "
                "with SeededItems, as CachedDataset is"
            )
        else:
            # without workers MONAI's loader seeds the transforms only once, when it is made
            set_rnd(dataset, seed)


def _draw_as_a_new_iterator(loader: DataLoader) -> None:
    """Draw the number that a new iterator draws for its workers, where the one of the last epoch is used again.

    The order of the images is drawn next, and it must not depend on whether this is the first epoch of the process.
    """
    if loader.persistent_workers and loader._iterator is not None:
        torch.empty((), dtype=torch.int64).random_(generator=loader.generator)
