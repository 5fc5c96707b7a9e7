"""A run that the machine cannot carry ends with what to do about it as its last line."""

from __future__ import annotations

import logging
import os
from typing import NoReturn

from ignite.engine import Engine, Events

from seqnorm_monai.data.machine_errors import MachineError, chain, explained

logger = logging.getLogger(__name__)


class MachineErrorAdvice:
    """Raise a `MachineError` with advice instead of an error of the machine; any other error goes on as it is.

    Meant are a lack of memory, shared memory, disk space or file handles, a worker that died, a drive that failed: see
    `seqnorm_monai.data.machine_errors`. It covers what an engine and its handlers do, the validation within a training
    too.

    Args:
        kept: what is not lost and how to go on, added to the message.
    """

    def __init__(self, kept: str = "") -> None:
        self.kept = kept

    def attach(self, engine: Engine) -> None:
        """To be attached before other handlers of exceptions, as MONAI's ``StatsHandler`` is one."""
        engine.add_event_handler(Events.EXCEPTION_RAISED, self)

    def __call__(self, _engine: Engine, error: BaseException) -> NoReturn:
        explanation = explained(error, f"during the run{_file_of(error)}")
        # ignite tells of one error twice, on its way through the epoch and through the run
        if explanation is None or (explanation is error and str(error).endswith(self.kept)):
            raise error
        text = f"{explanation}; {self.kept}" if self.kept else str(explanation)
        raise MachineError(text) from error


def _file_of(error: BaseException) -> str:
    """The file that an `OSError` names."""
    names = [os.fsdecode(link.filename) for link in chain(error) if isinstance(link, OSError) and link.filename]
    return f", at {names[0]}" if names else ""
