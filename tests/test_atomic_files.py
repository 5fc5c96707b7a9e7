"""A file is whole or not there, whatever happens while it is written."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from seqnorm_monai.atomic_files import GrowingTable, replacing, replacing_bytes

try:
    import resource
except ImportError:
    resource = None


def test_replaces_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "table.csv"
    for text in ("first\r\n", "second\n"):
        with replacing(path) as stream:
            stream.write(text)
        assert path.read_bytes() == text.encode()
    with replacing_bytes(path) as stream:
        stream.write(b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("opened", [replacing, replacing_bytes])
def test_a_write_that_fails_leaves_the_file_before_it(tmp_path: Path, opened: Callable) -> None:
    path = tmp_path / "model.pt"
    path.write_text("before")
    with pytest.raises(RuntimeError, match="disk"), opened(path) as stream:
        stream.write("half" if opened is replacing else b"half")
        raise RuntimeError("disk")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


class SmallDisk:
    """A disk on which the files of this process may have 10,007 bytes."""

    def __enter__(self) -> None:
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_007, self._limits[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)


@pytest.mark.skipif(resource is None, reason="Windows has no such limit")
@pytest.mark.parametrize("save", [torch.save, lambda content, stream: stream.write(bytes(content.numel()))])
def test_a_disk_that_is_too_small_is_named_with_the_file(tmp_path: Path, save: Callable) -> None:
    path = tmp_path / "model.pt"
    path.write_text("before")
    with pytest.raises((OSError, RuntimeError)) as caught, SmallDisk(), replacing_bytes(path) as stream:
        save(torch.zeros(100_003), stream)
    errors = [caught.value, caught.value.__context__]
    assert [(e.errno, e.filename) for e in errors if isinstance(e, OSError)] == [(errno.EFBIG, str(path))]
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(resource is None, reason="Windows has no such limit")
def test_rows_that_do_not_fit_leave_the_table_whole(tmp_path: Path) -> None:
    table = GrowingTable(tmp_path / "rows.csv", ["a", "b"])
    table.start()
    table.append([["1", "2"]])
    with pytest.raises(OSError, match=r"rows\.partial\.csv"), SmallDisk():
        table.append([["3", "x" * 997]] * 31)
    assert (tmp_path / "rows.partial.csv").read_text() == "a,b\n1,2\n"
    assert table.num_rows == 1
    table.append([["5", "7"]])
    table.finish()
    assert (tmp_path / "rows.csv").read_text() == "a,b\n1,2\n5,7\n"


def test_bytes_that_are_no_text_are_escaped(tmp_path: Path) -> None:
    with replacing(tmp_path / "t") as stream:
        stream.write("caf\udce9 \u00e9")
    assert (tmp_path / "t").read_text(encoding="utf-8") == "caf\\udce9 \u00e9"


def test_growing_table_has_its_name_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    table = GrowingTable(path, ["a", "b"])
    for rows in (2, 1):
        table.start()
        assert not path.exists()
        table.append([["1", "x,y"]] * rows)
        assert (tmp_path / "rows.partial.csv").read_text() == "a,b\n" + '1,"x,y"\n' * rows
        assert table.num_rows == rows
        table.finish()
        assert path.read_text() == "a,b\n" + '1,"x,y"\n' * rows
        assert list(tmp_path.iterdir()) == [path]
