"""Items whose random numbers depend on the epoch and on the item alone, whichever process computes them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from monai.data.utils import set_rnd
from torch.utils.data import Dataset


def derived_seed(*numbers: int) -> int:
    """A seed of 32 bits made from several numbers of at least 0, by numpy's ``SeedSequence``.

    Neighbouring arguments give unrelated seeds, so that epoch 2 of seed 0 is not epoch 1 of seed 1.
    """
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class SeededDataset(Dataset):
    """A data set whose item ``index`` draws from numbers that are seeded by (seed of the epoch, ``index``).

    A training then draws the same for an image whether it reads in its own process or in workers, in how many of them,
    and whether these live on from one epoch to the next. So it can be resumed with fewer workers on a smaller machine.

    Seeded are, while an item is computed: MONAI's random transforms, torch's numbers of the CPU, numpy's, and Python's
    ``random``. What these give to everything else goes on afterwards as if no item had been computed.

    Args:
        dataset: the data set; if it has a ``transform``, only in there are MONAI's random transforms looked for.
    """

    def __init__(self, dataset: Sequence[Any]) -> None:
        self.dataset = dataset
        # workers that outlive an epoch see it change, since it lies in shared memory
        self._seed = torch.full((), -1, dtype=torch.int64).share_memory_()

    def set_seed(self, seed: int) -> None:
        """Set the seed of an epoch, before its first item is read. Without any, nothing is seeded."""
        self._seed.fill_(seed)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:  # noqa: ANN401
        epoch = int(self._seed)
        if epoch < 0:
            return self.dataset[index]
        seed = derived_seed(epoch, index % len(self))
        with _numbers_of(seed):
            set_rnd(getattr(self.dataset, "transform", self.dataset), seed)
            return self.dataset[index]


@contextmanager
def _numbers_of(seed: int) -> Iterator[None]:
    """Seed the global random numbers of this process, and set them back at the end."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    # not torch.manual_seed: it would seed the GPU too, in the middle of an epoch's dropout
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
