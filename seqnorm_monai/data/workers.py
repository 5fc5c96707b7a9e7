"""What the worker processes of a data loader do at their start."""

from __future__ import annotations

import multiprocessing.queues
import os
import traceback

from monai.data.utils import worker_init_fn


def init_worker(worker_id: int) -> None:
    """Start a worker as MONAI does, and let it end, with an exit code that tells why, when it loses a batch.

    A batch travels to the training through a thread of the worker. If that thread runs out of open files or of shared
    memory, Python prints a traceback, drops the batch, and the training waits for it for ever (``Queue._feed`` in
    multiprocessing/queues.py). A worker that ends is noticed by torch at once; `seqnorm_monai.data.machine_errors`
    reads the exit code, which is the error's number.
    """
    worker_init_fn(worker_id)
    # of this process alone: the training has a copy of its own
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end)


def _end(error: BaseException, _lost: object) -> None:
    traceback.print_exception(error)
    os._exit(_exit_code(error))


def _exit_code(error: BaseException) -> int:
    number = getattr(error, "errno", None) or 0
    return number if 0 < number < 128 else 1
