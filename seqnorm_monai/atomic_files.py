"""Files that are whole or not there: a reader never meets half a table."""

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """Open a new text file (UTF-8, newlines as written) that takes the place of `path` when the block ends well.

    The text goes to a temporary file in the same folder, which is made if needed, and `os.replace` moves it. When the
    block raises, the temporary file is removed and what stood at `path` is untouched. Characters that UTF-8 cannot
    hold (bytes of a file name that were no text) are written as backslash escapes.
    """
    with replacing_bytes(path) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", errors="backslashreplace", newline="")
        yield text
        text.flush()
        text.detach()


@contextmanager
def replacing_bytes(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """As `replacing`, for bytes."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # one name, so that what a killed process left is overwritten by the next and does not pile up
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


class GrowingTable:
    """A CSV file that grows under the name `NAME.partial.csv` and becomes `NAME.csv` when it is whole."""

    def __init__(self, path: Path, header: Sequence[str]) -> None:
        self.path = path
        self.header = header
        self.num_rows = 0
        self._partial = path.with_suffix(".partial.csv")

    def start(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        self._partial.unlink(missing_ok=True)
        self.append([self.header])
        self.num_rows = 0

    def append(self, rows: Iterable[Sequence[str]]) -> None:
        rows = list(rows)
        # closed each time: a run that breaks off leaves every row of its finished iterations
        with self._partial.open("a", encoding="utf-8", errors="backslashreplace", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows(rows)
        self.num_rows += len(rows)

    def finish(self) -> None:
        os.replace(self._partial, self.path)
