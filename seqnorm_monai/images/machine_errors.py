"""Errors of the machine, which say nothing of the file that was being read when they came."""

from __future__ import annotations

import errno

# No file descriptor, disk space or memory is left, or the disk itself fails.
_OF_THE_MACHINE = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EIO))


def is_machine_error(error: BaseException) -> bool:
    """Whether `error` is a lack of memory, disk space or file descriptors, or a failing disk: no file is to blame."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _OF_THE_MACHINE)


def raise_machine_error(error: BaseException) -> None:
    """Raise `error` again if it is one of the machine; to be called first where an error becomes one of a file."""
    if is_machine_error(error):
        raise error
