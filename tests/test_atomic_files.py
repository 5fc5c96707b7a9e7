"""A file is whole or not there, whatever happens while it is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from seqnorm_monai.atomic_files import GrowingTable, replacing, replacing_bytes


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
