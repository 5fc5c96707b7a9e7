"""Items whose random numbers depend on the epoch and on the item alone, whichever process computes them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from monai.data.utils import set_rnd


def derived_seed(*numbers: int) -> int:
    """A seed of 32 bits made from several numbers of at least 0, by numpy's ``SeedSequence``.

    Neighbouring arguments give unrelated seeds, so that epoch 2 of seed 0 is not epoch 1 of seed 1.
    """
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class SeededItems:
    """A base class that makes item ``index`` of a data set draw from numbers seeded by (seed of the epoch, ``index``).

    A training then draws the same for an image whether it reads in its own process or in workers, in how many of them,
    and whether these live on from one epoch to the next. So it can be resumed with fewer workers on a smaller machine.

    Seeded are, while an item is computed: MONAI's random transforms in the attribute ``transform``, torch's numbers of
    the CPU, numpy's, and Python's ``random``. What these give to everything else goes on afterwards as if no item had
    been computed. Name it before the data set: ``class Mine(SeededItems, CacheDataset)``.
    """

    _seed: torch.Tensor | None = None

    def set_seed(self, seed: int) -> None:
        """Set the seed of an epoch, before its first item is read. Without any, nothing is seeded."""
        if self._seed is None:
            # workers that outlive an epoch see it change, since it lies in shared memory
            self._seed = torch.empty((), dtype=torch.int64).share_memory_()
        self._seed.fill_(seed)

    def __getitem__(self, index: int) -> Any:  # noqa: ANN401
        if self._seed is None or not isinstance(index, int):
            return super().__getitem__(index)
        seed = derived_seed(int(self._seed), index % len(self))
        with _numbers_of(seed):
            set_rnd(self.transform, seed)
            return super().__getitem__(index)


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
