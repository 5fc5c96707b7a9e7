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
    """As `replacing`, for bytes. An `OSError` of writing, as of a full disk, names the file."""
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
    except Exception as error:
        _name(error, target)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _name(error: BaseException | None, path: Path) -> None:
    """Give the path to an `OSError` that names none, and to one that `torch.save` hides behind an error of its own."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = os.fspath(path)
        error = error.__context__ if error.__cause__ is None else error.__cause__


class GrowingTable:
    """A CSV file that grows under the name `NAME.partial.csv` and becomes `NAME.csv` when it is whole.

    Rows are added all or none: when the disk is full, the file ends after the last whole row.
    """

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
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        content = memoryview(text.getvalue().encode(errors="backslashreplace"))
        # Closed each time: a run that breaks off leaves every row of its finished iterations. Without a buffer, which
        # would be written once more when the file is closed after an error.
        with self._partial.open("ab", buffering=0) as stream:
            whole = stream.seek(0, os.SEEK_END)
            try:
                while content:
                    content = content[stream.write(content) :]
            except OSError as error:
                stream.truncate(whole)
                _name(error, self._partial)
                raise
        self.num_rows += len(rows)

    def finish(self) -> None:
        os.replace(self._partial, self.path)
