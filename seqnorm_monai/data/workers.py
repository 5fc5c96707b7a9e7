"""What the worker processes of a data loader do at their start."""

from __future__ import annotations

import errno
import logging
import multiprocessing.queues
import os
import re
import traceback

from monai.data.utils import worker_init_fn

from seqnorm_monai.data.machine_errors import SHARED_MEMORY_CODE


def init_worker(worker_id: int) -> None:
    """Start a worker as MONAI does, and let it end, with an exit code that tells why, when it loses a batch.

    A batch travels to the training through a thread of the worker. If that thread runs out of open files or of shared
    memory, Python prints a traceback, drops the batch, and the training waits for it for ever (``Queue._feed`` in
    multiprocessing/queues.py). A worker that ends is noticed by torch at once; `seqnorm_monai.data.machine_errors`
    reads the exit code, which is the error's number.

    MONAI's collation logs the contents of a batch that it cannot collate, and so what stands in headers: not here.
    """
    worker_init_fn(worker_id)
    logging.getLogger("dev_collate").disabled = True
    # of this process alone: the training has a copy of its own
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end)


def _end(error: BaseException, _lost: object) -> None:
    code = _exit_code(error)
    # another worker may meet the same error after the run has said what to do, which stays the last line
    if code == 1:
        traceback.print_exception(error)
    os._exit(code)


def _exit_code(error: BaseException) -> int:
    number = getattr(error, "errno", None) or 0
    # torch tells by the text alone (aten/src/ATen/MapAllocator.cpp)
    if found := re.match(r"unable to .*: .*\((\d+)\)", str(error)):
        number = int(found[1])
        if number not in (errno.EMFILE, errno.ENFILE):
            return SHARED_MEMORY_CODE
    return number if 0 < number < SHARED_MEMORY_CODE else 1
