"""Errors of the machine, which say nothing of the file that was being read when they came."""

from __future__ import annotations

import errno

# the disk or the network drive itself fails, and with it all its files
FAILING_DRIVE = frozenset(
    (errno.EIO, errno.ENODEV, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH)
)
# no file descriptor, disk space or memory is left
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM))


def is_machine_error(error: BaseException) -> bool:
    """Whether `error` is a lack of memory, disk space or file descriptors, or a failing drive: no file is to blame."""
    if isinstance(error, OSError):
        return error.errno in _EXHAUSTED | FAILING_DRIVE
    return isinstance(error, MemoryError)


def raise_machine_error(error: BaseException) -> None:
    """Raise `error` again if it is one of the machine; to be called first where an error becomes one of a file."""
    if is_machine_error(error):
        raise error
