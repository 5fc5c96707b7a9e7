"""Errors of the machine, which say nothing of the file that was being read when they came."""

from __future__ import annotations

import errno

# No file descriptor, disk space or memory is left.
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM))


def is_machine_error(error: BaseException) -> bool:
    """Whether `error` is a lack of memory, disk space or file descriptors: the same file may be read a minute later."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _EXHAUSTED)


def raise_machine_error(error: BaseException) -> None:
    """Raise `error` again if it is one of the machine; to be called first where an error becomes one of a file."""
    if is_machine_error(error):
        raise error
