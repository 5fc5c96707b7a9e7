"""Run pydicom without its warnings and log records."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# A filter of a logger does not hold for its children: these are all that pydicom writes to.
PYDICOM_LOGGERS = (
    "pydicom",
    "pydicom.pixels.decoders.base",
    "pydicom.pixels.encoders.base",
    "pydicom.pixels.utils",
)


class _Silence:
    """As the `module` of a warning filter it matches every module, while its thread is inside."""

    def match(self, module: str) -> bool:
        return getattr(_thread, "silence", None) is self


_thread = threading.local()


def _is_loud(record: logging.LogRecord) -> bool:
    return getattr(_thread, "silence", None) is None


for _name in PYDICOM_LOGGERS:
    logging.getLogger(_name).addFilter(_is_loud)


@contextmanager
def pydicom_silenced() -> Iterator[None]:
    """Keep pydicom from warning and logging about odd files.

    Its messages quote header values: of a damaged file any part of it, the patient's name included. Its warnings
    would become errors under ``-W error`` although the file is readable.

    Only the calling thread is silent. Its warning filter is put in front of the others and taken out again by itself:
    to save and restore the list, as `warnings.catch_warnings` does, would undo what other threads set meanwhile.
    """
    outer = getattr(_thread, "silence", None)
    silence = outer or _Silence()
    entry = ("ignore", None, Warning, silence, 0)
    # also inside another call: somebody may have put a filter in front since
    if not warnings.filters or warnings.filters[0] != entry:
        _remove(entry)
        warnings.filters.insert(0, entry)
    _thread.silence = silence
    try:
        yield
    finally:
        if outer is None:
            _thread.silence = None
            _remove(entry)


def _remove(entry: tuple[object, ...]) -> None:
    """Take a filter out, if a `catch_warnings` of somebody has not done so already."""
    with suppress(ValueError):
        warnings.filters.remove(entry)
