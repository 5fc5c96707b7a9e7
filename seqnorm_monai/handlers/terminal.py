"""What a person sees of a run: one progress bar at a time, and log lines above it."""

from __future__ import annotations

from contextlib import ExitStack

from ignite.engine import Engine, Events
from tqdm.contrib.logging import logging_redirect_tqdm


class LogAboveBars:
    """While an engine runs, write log lines above a progress bar of ``tqdm`` instead of into it.

    Meant are the handlers of Python's root logger that write to the console. A run that fails leaves them so; that
    changes no line.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()

    def attach(self, engine: Engine) -> None:
        """To be attached to the engine that runs first: a trainer's validation is within its run."""
        engine.add_event_handler(Events.STARTED, self._redirect)
        engine.add_event_handler(Events.COMPLETED, self._restore)

    def _redirect(self, _engine: Engine) -> None:
        self._stack.enter_context(logging_redirect_tqdm())

    def _restore(self, _engine: Engine) -> None:
        self._stack.close()
