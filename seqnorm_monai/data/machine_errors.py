"""What to do when the machine runs out of something while images are read or results written: no file is to blame."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

import torch

from seqnorm_monai.images.machine_errors import FAILING_DRIVE, is_machine_error

_MEMORY = "use fewer num_workers, a smaller batch_size or smaller images, or a machine with more memory"
_SHARED_MEMORY = (
    "enlarge the shared memory (docker run --shm-size=8g, or --ipc=host; /dev/shm), raise the limit of open files "
    "(ulimit -n), or set num_workers to 0"
)
_WORKER = f"a worker process died, mostly for lack of memory: {_MEMORY}"
_FILES = "raise the limit of open files (ulimit -n), or use fewer num_workers"
_DISK = "free space on the disk, also where temporary files go (TMPDIR)"
_QUOTA = "the file is larger than the file system or the limit of the process (ulimit -f) allows; write to another disk"
_READ_ONLY = "the disk can only be read; give an output_dir, ckpt_dir and cache_dir that can be written to"
_DRIVE = "the disk or network drive failed: check its connection and health; if one file fails alone, leave it out"
_REMEDIES = {
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), _FILES),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _DISK),
    errno.EFBIG: _QUOTA,
    errno.EROFS: _READ_ONLY,
    errno.ENOMEM: _MEMORY,
    **dict.fromkeys(FAILING_DRIVE, _DRIVE),
}


# the exit code of a worker that found no shared memory: above all numbers of errors
SHARED_MEMORY_CODE = 200


class MachineError(RuntimeError):
    """The machine ran out of something; the message says of what, and what to do."""


def remedy(error: BaseException) -> str:
    """What to do about an error of the machine, "" for any other: that one may be the fault of a file.

    Beside `MemoryError` and numbers of an `OSError` there are RuntimeErrors of torch, which tell themselves apart by
    their text alone: of its allocators, of shared memory between processes, of a worker that died, and what it passes
    on from a worker.
    """
    if re.match(r"Caught \w+ in DataLoader worker process", str(error)):
        return _remedy_in_worker(str(error))
    if isinstance(error, OSError):
        return _REMEDIES.get(error.errno, _MEMORY if is_machine_error(error) else "")
    if is_machine_error(error):
        return _MEMORY
    return _remedy_by_text(error) if isinstance(error, RuntimeError) else ""


def _remedy_by_text(error: RuntimeError) -> str:
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate memory" in text:
        return _MEMORY
    # a worker that met a bus error ran out of shared memory, says torch
    if "shared memory" in text or "ancdata" in text:
        return _SHARED_MEMORY
    if re.search(r"DataLoader worker \(pid.*(exited unexpectedly|killed by signal)", text):
        return _remedy_of_exit_code(error) or _WORKER
    # torch/utils/data/dataloader.py, where the pipe to the workers ends
    if text.startswith("Too many open files. Communication with the workers"):
        return _FILES
    # aten/src/ATen/MapAllocator.cpp: "unable to write to file </torch_17_19>: No space left on device (28)"
    number = re.search(r"^unable to .*: .*\((\d+)\)", text)
    return _SHARED_MEMORY if number and is_machine_error(OSError(int(number[1]), "")) else ""


def _remedy_of_exit_code(error: RuntimeError) -> str:
    """What to do if the worker ended with the number of an error, as `seqnorm_monai.data.workers` makes it do."""
    codes = (re.search(r"exited unexpectedly with exit code (\d+)", str(link)) for link in chain(error))
    numbers = [int(code[1]) for code in codes if code]
    if SHARED_MEMORY_CODE in numbers:
        return _SHARED_MEMORY
    return next((remedy(OSError(number, "")) for number in numbers), "")


def _remedy_in_worker(text: str) -> str:
    """What to do about an exception of a worker process, of which torch passes on no more than the traceback."""
    # a reader's refusal, whatever made it refuse
    if re.search(r"^seqnorm_monai\.images\.", text, re.MULTILINE):
        return ""
    if number := re.search(r"^\w+: \[Errno (\d+)\]", text, re.MULTILINE):
        return remedy(OSError(int(number[1]), ""))
    raised = re.findall(r"^RuntimeError: (.+)$", text, re.MULTILINE)
    if advice := next((found for one in raised if (found := _remedy_by_text(RuntimeError(one)))), ""):
        return advice
    if re.search(r"^(MemoryError|.*OutOfMemoryError|.*DefaultCPUAllocator)\b", text, re.MULTILINE):
        return _MEMORY
    return ""


def explained(error: BaseException, where: str) -> MachineError | None:
    """The error as one of the machine, if it or one that it came from is; None for any other.

    A reader that refuses a file with a reason of its own (an attribute `reason`) has the last word, whatever made it
    do so. The message tells `where` ("while reading x.dcm") and what to do; it does not repeat texts of exceptions,
    which could quote a header.
    """
    for link in chain(error):
        if isinstance(link, MachineError):
            return _of_worker(link)
        if own_reason(link):
            return None
        if advice := remedy(link):
            number = getattr(link, "errno", None)
            what = type(link).__name__ + (f" ({os.strerror(number)})" if number else "")
            return MachineError(f"{what} {where}: the machine is at its limit; {advice}")
    return None


def _of_worker(error: MachineError) -> MachineError:
    """The error itself, or, where torch passed it on from a worker with its traceback around, its message alone."""
    text = str(error)
    if not text.startswith("Caught MachineError in DataLoader worker"):
        return error
    return MachineError(text.strip().splitlines()[-1].removeprefix(f"{MachineError.__module__}.MachineError: "))


def own_reason(link: BaseException) -> str:
    """What a reader says of a file that it refuses; "" for other exceptions."""
    reason = getattr(link, "reason", None)
    # the `reason` of a UnicodeError is a word of its codec, not of a reader
    return reason if isinstance(reason, str) and not isinstance(link, UnicodeError) else ""


def chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, what it was raised from, and so on; each once."""
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__context__ if link.__cause__ is None else link.__cause__
