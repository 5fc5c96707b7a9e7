"""Locks on open files, which the system takes back when their process ends, however it ends."""

import errno
import os
from pathlib import Path
from typing import IO

# what file systems say that know no locks
_NO_LOCKS = frozenset((errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL))
_WINDOWS = os.name == "nt"

if _WINDOWS:
    import msvcrt
else:
    import fcntl


class NoLocksError(OSError):
    """The file system knows no locks."""


def try_lock(stream: IO, *, by_process: bool) -> bool:
    """Lock an open file for writing; whether it was free. The lock ends when the file is closed.

    ``by_process`` tells two kinds of owners apart, which matters where there is ``fork`` alone: the process, so that
    children do not inherit the lock and prolong it by their own life; or else the open file, so that two threads of a
    process exclude each other too.

    Raises:
        NoLocksError: if the file system knows no locks, as some network drives.
    """
    try:
        if _WINDOWS:
            # a byte far behind the end, since nobody else may read a locked one
            stream.seek(2**30)
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
            stream.seek(0)
        else:
            lock = fcntl.lockf if by_process else fcntl.flock
            lock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise NoLocksError(error.errno, os.strerror(error.errno)) from error
        return False
    return True


def is_at(stream: IO, path: Path) -> bool:
    """Whether the open file still is the one at `path`: another process may have moved or removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
