"""pydicom is silent for the thread that is inside and for no other, and everything is as it was afterwards."""

from __future__ import annotations

import logging
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest

from seqnorm_monai.images.dicom.silence import PYDICOM_LOGGERS, pydicom_silenced

LOGGER = logging.getLogger("pydicom")


def state() -> tuple[int, list[object]]:
    return LOGGER.level, list(warnings.filters)


def is_quiet() -> bool:
    """Whether no log record comes through, and no warning, which would be an error here."""
    seen: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = seen.append
    LOGGER.addHandler(handler)
    for name in PYDICOM_LOGGERS:
        logging.getLogger(name).critical("SECRET")
    LOGGER.removeHandler(handler)
    warnings.warn("SECRET", UserWarning, stacklevel=1)
    return not seen


@contextmanager
def another_thread_inside() -> Iterator[None]:
    entered, leave = threading.Event(), threading.Event()

    def inside() -> None:
        with pydicom_silenced():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=inside)
    thread.start()
    assert entered.wait(10)
    yield
    leave.set()
    thread.join(10)


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
    with another_thread_inside():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            child = os.fork()
        if child == 0:
            with pydicom_silenced():
                quiet = is_quiet()
            try:
                is_quiet()
            except UserWarning:
                os._exit(0 if quiet and LOGGER.level == before[0] else 1)
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert state() == before


def test_a_filter_that_is_set_meanwhile_stays() -> None:
    before = list(warnings.filters)
    with warnings.catch_warnings():
        with another_thread_inside():
            warnings.filterwarnings("ignore", "mine")
        assert warnings.filters[1:] == before
        warnings.warn("mine, and ignored", UserWarning, stacklevel=1)


def test_other_threads_are_not_silent() -> None:
    with another_thread_inside(), pytest.raises(UserWarning):
        is_quiet()


def test_a_level_that_is_set_meanwhile_stays() -> None:
    before = LOGGER.level
    try:
        with another_thread_inside():
            LOGGER.setLevel(logging.ERROR)
        assert LOGGER.level == logging.ERROR
    finally:
        LOGGER.setLevel(before)


def test_saved_filters_of_somebody_else_do_not_keep_it_silent() -> None:
    """He saves them while a thread is inside and restores them after it has left."""
    with another_thread_inside():
        somebody = warnings.catch_warnings()
        somebody.__enter__()
    somebody.__exit__(None, None, None)
    with pytest.raises(UserWarning):
        is_quiet()
    with pydicom_silenced():
        assert is_quiet()


def test_a_filter_in_front_is_passed_by_the_next_call() -> None:
    with warnings.catch_warnings(), pydicom_silenced():
        warnings.simplefilter("error")
        with pydicom_silenced():
            assert is_quiet()


def test_every_logger_of_pydicom_is_known() -> None:
    root = Path(pydicom.__file__).parent
    found = set()
    for path in root.rglob("*.py"):
        if "tests" not in path.relative_to(root).parts:
            module = ".".join(("pydicom", *path.relative_to(root).with_suffix("").parts))
            names = re.findall(r"getLogger\((.*?)\)", path.read_text(encoding="utf-8"))
            found |= {module if name == "__name__" else name.strip("\"'") for name in names}
    assert found == set(PYDICOM_LOGGERS)
