"""A temporary folder that lives as long as somebody needs what was unpacked into it."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path


class UnpackedFolder:
    """A new temporary folder at `path`: it goes on `close`, when nobody holds this object any more, or at exit.

    Only the process that made it removes it: a worker that was forked may drop its copy while the others still read.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="seqnorm_monai_"))
        self._remove = weakref.finalize(self, _remove, self.path, os.getpid())

    def close(self) -> None:
        """Remove the folder; nothing happens the second time."""
        self._remove()


def _remove(path: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(path, ignore_errors=True)
