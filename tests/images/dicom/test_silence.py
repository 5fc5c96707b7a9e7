"""pydicom is silent inside, for all threads until the last one leaves, and as it was afterwards."""

from __future__ import annotations

import logging
import os
import threading
import warnings

import pytest

from seqnorm_monai.images.dicom.silence import pydicom_silenced

LOGGER = logging.getLogger("pydicom")


def state() -> tuple[int, list[object]]:
    return LOGGER.level, list(warnings.filters)


def is_quiet() -> bool:
    warnings.warn("SECRET", UserWarning, stacklevel=1)
    return not LOGGER.isEnabledFor(logging.CRITICAL)


def test_inside_and_after() -> None:
    before = state()
    with pytest.raises(KeyError), pydicom_silenced():
        assert is_quiet()
        with pydicom_silenced():
            assert is_quiet()
        assert is_quiet()
        raise KeyError
    assert state() == before
    with pytest.raises(UserWarning):
        is_quiet()


def test_threads_overlap() -> None:
    """The first caller leaves while the second is inside: still quiet, and both run at once."""
    before = state()
    entered, left = threading.Event(), threading.Event()
    found = []

    def second() -> None:
        with pydicom_silenced():
            entered.set()
            assert left.wait(10)
            found.append(is_quiet())

    thread = threading.Thread(target=second)
    with pydicom_silenced():
        thread.start()
        assert entered.wait(10)
    left.set()
    thread.join(10)
    assert found == [True]
    assert state() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_while_another_thread_is_inside() -> None:
    """In the child that thread does not exist: nothing stays quiet, and nobody waits for it."""
    before = state()
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with pydicom_silenced():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    assert entered.wait(10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        with pydicom_silenced():
            quiet = not LOGGER.isEnabledFor(logging.CRITICAL)
        os._exit(0 if quiet and LOGGER.level == before[0] else 1)
    leave.set()
    thread.join(10)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert state() == before
