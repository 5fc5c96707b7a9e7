"""Run pydicom without its warnings and log records."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_lock = threading.Lock()
# how many callers are inside, and what the first of them changed
_inside = 0
_changes = ExitStack()


def _restore_after_fork() -> None:
    """A DataLoader forks: callers in other threads at that moment never leave in the child."""
    global _lock, _inside
    _lock, _inside = threading.Lock(), 0
    _changes.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restore_after_fork)


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom from warning and logging about odd files.

    Its messages quote header values: of a damaged file any part of it, the patient's name included. Its warnings
    would become errors under ``-W error`` although the file is readable. Both filters are process-wide: the first
    caller sets them and the last one takes them back, so threads may decode side by side, and a caller inside another
    costs nothing.
    """
    global _inside
    with _lock:
        if _inside == 0:
            _silence()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _changes.close()


def _silence() -> None:
    # Its modules log to this logger and to children that inherit the level.
    logger = logging.getLogger("pydicom")
    _changes.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")
    _changes.callback(logger.setLevel, logger.level)
    logger.setLevel(logging.CRITICAL + 1)
