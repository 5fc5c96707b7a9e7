"""Every file below a folder, once, and why those that cannot be read cannot."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable

from seqnorm_monai.images.machine_errors import raise_machine_error


def files_below(top: str, excluded: Callable[[str], bool] = lambda path: False) -> dict[str, str | None]:
    """Path of every file below `top` -> why it cannot be read (None: it can); not sorted.

    Links to files count. Links to folders are followed, yet every folder is visited once, under its real name where
    that lies below `top`, so that loops end and no file comes twice. A broken link, a folder that cannot be listed and
    what is no regular file (a pipe would block its reader) come with a reason. Paths for which `excluded` is true are
    left out, a folder with all it holds.
    """
    found: dict[str, str | None] = {}
    visited: set[tuple[int, int]] = set()
    roots = deque([top])
    while roots:
        roots.extend(sorted(_walk(roots.popleft(), excluded, visited, found)))
    return found


def unreadable_reason(path: str) -> str | None:
    """What keeps a reader from opening the file at `path`, None if nothing does."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise_machine_error(error)
        return "broken symbolic link" if os.path.islink(path) else f"cannot be read ({type(error).__name__})"
    if not stat.S_ISREG(mode):
        return "not a regular file"
    return None if os.access(path, os.R_OK) else "no permission to read it"


def _walk(
    root: str, excluded: Callable[[str], bool], visited: set[tuple[int, int]], found: dict[str, str | None]
) -> list[str]:
    """Put what stands in the real folders below `root` into `found` (path: why unreadable); return links to folders."""
    links = []
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                paths = [entry.path for entry in entries if not excluded(entry.path)]
        except OSError as error:
            raise_machine_error(error)
            found[folder] = f"folder cannot be listed ({type(error).__name__})"
            continue
        for path in paths:
            if os.path.isdir(path):
                (links if os.path.islink(path) else pending).append(path)
            else:
                found[path] = unreadable_reason(path)
    return links
