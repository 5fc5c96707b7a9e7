"""Run pydicom without its warnings and log records."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


# A DataLoader forks: a lock that another thread held at that moment would never be released in the child.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom from warning and logging about odd files.

    Its messages quote header values: of a damaged file any part of it, the patient's name included. Its warnings
    would become errors under ``-W error`` although the file is readable. Both filters are process-wide, so two
    threads of a caching data set must not overlap here.
    """
    # Its modules log to this logger and to children that inherit the level.
    logger = logging.getLogger("pydicom")
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        level = logger.level
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            logger.setLevel(level)
