"""One run in a folder at a time: a second one is refused before it writes anything."""

from __future__ import annotations

import atexit
import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import ignite.distributed as idist
from ignite.engine import Engine, Events

from seqnorm_monai.file_locks import NoLocksError, is_at, try_lock

logger = logging.getLogger(__name__)

NAME = ".lock"
# Locks of this process by the folder's real path, and whether a run was interrupted there: a second trainer of the same
# process goes on with them.
_HELD: dict[str, tuple[IO, bool]] = {}
# those of them in which an engine has started
_BEGUN: set[str] = set()


class RunInUseError(RuntimeError):
    """Another process runs in the same folder."""


class RunLock:
    """Hold folders for one run, from `acquire` until the engine completes or the process ends.

    A folder is held by a lock on its file `.lock`. A killed process loses its locks at once, whoever killed it, so
    nothing has to be cleaned up by hand; the file stays behind it and is removed by the next run that completes. It
    names the process that holds the folder, for the message to the second one. Half-written files of a killed run
    (`.NAME.tmp`, see `seqnorm_monai.atomic_files`) are removed when a folder is taken.

    A file system without locks gives a warning, and there two runs are not kept apart. With several processes the
    first one holds the folders for all; start a process group before `acquire`.

    Args:
        folders: made if they do not exist.
    """

    def __init__(self, folders: Sequence[str | os.PathLike[str]]) -> None:
        if isinstance(folders, (str, os.PathLike)):
            raise TypeError(f"argument folders must be a list of folders; got {folders!r}")
        # each once: two names may be one folder
        self.folders = list({os.path.realpath(folder): Path(folder) for folder in folders}.values())

    @property
    def interrupted(self) -> bool:
        """Whether an earlier run in one of the folders, which are held now, began and did not complete."""
        held = [_HELD.get(os.path.realpath(folder), (None, False)) for folder in self.folders]
        # what the other processes cannot know without asking the first one is left to it
        return any(interrupted for _, interrupted in held) or idist.get_rank() > 0

    def attach(self, engine: Engine) -> None:
        """To be attached before every handler that writes to the folders."""
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.COMPLETED, self.release)

    def _begin(self) -> None:
        self.acquire()
        _BEGUN.update(os.path.realpath(folder) for folder in self.folders)

    def acquire(self) -> None:
        """Take the folders; nothing happens to those that this process holds already.

        Raises:
            RunInUseError: if another process holds one of them.
            OSError: if a folder cannot be made or written to; it names the folder.
        """
        if idist.get_rank() > 0:
            return
        new = [folder for folder in self.folders if os.path.realpath(folder) not in _HELD]
        try:
            for folder in new:
                _HELD[os.path.realpath(folder)] = self._taken(folder)
        except BaseException:
            # all or none
            RunLock(new).release()
            raise

    def release(self) -> None:
        """Give the folders back and remove their lock files."""
        for folder in self.folders:
            if os.path.realpath(folder) in _HELD:
                stream, _ = _HELD.pop(os.path.realpath(folder))
                _remove(folder / NAME, stream)

    def _taken(self, folder: Path) -> tuple[IO, bool]:
        path = folder / NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            existed = path.exists()
            stream = path.open("a+")
        except OSError as error:
            advice = f"{error.strerror}: nothing can be written there; give another output_dir and ckpt_dir, or write"
            raise OSError(error.errno, f"{advice} access to this one", os.fspath(folder)) from error
        try:
            free = try_lock(stream, by_process=True)
        except NoLocksError as error:
            logger.warning(f"{folder}: {error.strerror}, so a second run in this folder would not be refused")
            free = True
        if not free:
            with stream:
                stream.seek(0)
                owner = stream.read(200).strip() or "of an unknown process"
            raise RunInUseError(
                f"{folder}: another run ({owner}) writes there; wait for its end, or give another output_dir and "
                "ckpt_dir"
            )
        if not is_at(stream, path):
            # it was removed, by a run that completed, between being opened and being locked
            stream.close()
            return self._taken(folder)
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()}")
        stream.flush()
        for half in folder.glob(".*.tmp"):
            half.unlink(missing_ok=True)
        return stream, existed


@atexit.register
def _close() -> None:
    """Give back what a run still holds when the process ends.

    The file of one that failed stays, that of one which was refused before it began goes.
    """
    for folder, (stream, existed) in _HELD.items():
        if folder in _BEGUN or existed:
            stream.close()
        else:
            _remove(Path(folder) / NAME, stream)


def _remove(path: Path, stream: IO) -> None:
    try:
        # before it is closed, so that nobody locks a file that is about to go
        path.unlink(missing_ok=True)
        stream.close()
    except PermissionError:
        # Windows removes no open file
        stream.close()
        path.unlink(missing_ok=True)
