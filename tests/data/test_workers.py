"""A worker that loses a batch on its way to the training ends, and the training says why."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from monai.data import DataLoader

from seqnorm_monai.data import init_worker
from seqnorm_monai.data.machine_errors import explained


class Lost:
    """A batch that fails on its way, in the thread of the worker that sends it."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __reduce__(self) -> Any:  # noqa: ANN401
        raise self.error


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (OSError(errno.ENOSPC, "No space left on device"), "free space"),
        (RuntimeError("unable to write to file </torch_17_19>"), "a worker process died"),
        (RuntimeError("unable to open shared memory object </t> in mode: Too many open files (24)"), "ulimit -n"),
        (RuntimeError("unable to write to file </t>: No space left on device (28)"), "--shm-size"),
        (OSError(997, "of another system"), "a worker process died"),
    ],
)
def test_a_lost_batch_ends_the_run(error: Exception, cure: str) -> None:
    # the limit is met where the worker lives on: then nothing but time tells
    loader = DataLoader(
        [1, 2, 3], num_workers=1, timeout=60, collate_fn=lambda _: Lost(error), worker_init_fn=init_worker
    )
    with pytest.raises(RuntimeError, match="exited unexpectedly") as caught:
        list(loader)
    explanation = explained(caught.value, "during the run")
    assert explanation is not None
    assert cure in str(explanation)
