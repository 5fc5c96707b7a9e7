"""What to do when the machine runs out of something while images are read: no file is to blame for it."""

from __future__ import annotations

import errno
import re

import torch

from seqnorm_monai.images.machine_errors import is_machine_error

_MEMORY = "use fewer num_workers, a smaller batch_size or smaller images, or a machine with more memory"
_SHARED_MEMORY = (
    "enlarge the shared memory (docker run --shm-size=8g, or --ipc=host; /dev/shm), raise the limit of open files "
    "(ulimit -n), or set num_workers to 0"
)
_WORKER = f"a worker process died, mostly for lack of memory: {_MEMORY}"
_FILES = "raise the limit of open files (ulimit -n), or use fewer num_workers"
_DISK = "free space on the disk, also where temporary files go (TMPDIR)"
_FAILED = "check the disk or the network drive that holds the images (the system's log names it), then start again"
_REMEDIES = {
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENOSPC: _DISK,
    errno.EDQUOT: _DISK,
    errno.EIO: _FAILED,
}


class MachineError(RuntimeError):
    """The machine ran out of something; the message says of what, and what to do."""


def remedy(error: BaseException) -> str:
    """What to do about an error of the machine, "" for any other: that one may be the fault of a file.

    Beside what `is_machine_error` knows there are RuntimeErrors of torch, which tell themselves apart by their text
    alone: of its allocators, of shared memory between processes, and of a worker that died.
    """
    if is_machine_error(error):
        return _REMEDIES.get(getattr(error, "errno", None), _MEMORY)
    if not isinstance(error, RuntimeError):
        return ""
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate memory" in text:
        return _MEMORY
    # a worker that met a bus error ran out of shared memory, says torch
    if "shared memory" in text or "ancdata" in text:
        return _SHARED_MEMORY
    if re.search(r"DataLoader worker \(pid.*(exited unexpectedly|killed by signal)", text):
        return _WORKER
    # aten/src/ATen/MapAllocator.cpp: "unable to write to file </torch_17_19>: No space left on device (28)"
    number = re.search(r"^unable to .*: .*\((\d+)\)", text)
    return _SHARED_MEMORY if number and is_machine_error(OSError(int(number[1]), "")) else ""
