"""How far a long reading is: a bar on a terminal, and now and then a line in a log."""

from __future__ import annotations

import logging
import time
from types import TracebackType

from tqdm import tqdm

logger = logging.getLogger(__name__)


class Progress:
    """Count items of a known total, from ``with`` to its end.

    On a terminal a bar of ``tqdm`` shows them. A file or pipe gets no bar, which would be one long line there, but a
    log line when `seconds` have passed since the last one.
    """

    def __init__(self, total: int, name: str, *, seconds: float = 60.0) -> None:
        self.total = total
        self.name = name
        self.seconds = seconds
        self.count = 0

    def __enter__(self) -> Progress:
        # disable=None: where stderr is no terminal
        self._bar = tqdm(total=self.total, desc=self.name, unit="image", disable=None)
        self._last = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def add(self, count: int) -> None:
        """So many items more are done."""
        self.count += count
        self._bar.update(count)
        if self._bar.disable and time.monotonic() - self._last >= self.seconds:
            self._last = time.monotonic()
            logger.info(f"{self.name}: {self.count} of {self.total}")
