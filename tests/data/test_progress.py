"""A long reading: a bar with its total on a terminal, a line now and then in a log."""

from __future__ import annotations

import io
import logging
import time

import pytest

from seqnorm_monai.data.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_one_bar_with_a_total(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    with Progress(20, "images") as progress:
        progress.add(7)
        progress.add(13)
    assert progress.count == 20
    assert "20/20" in screen.getvalue()
    assert screen.getvalue().count("\n") == 1


def test_a_log_gets_a_line_now_and_then(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.INFO), Progress(20, "images", seconds=0.05) as progress:
        progress.add(1)
        time.sleep(0.06)
        progress.add(4)
        progress.add(1)
    assert [record.getMessage() for record in caplog.records] == ["images: 5 of 20"]
    assert capsys.readouterr().err == ""


def test_the_bar_is_closed_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    with pytest.raises(ValueError, match="x"), Progress(3, "images") as progress:
        progress.add(1)
        raise ValueError("x")
    assert screen.getvalue().endswith("\n")
