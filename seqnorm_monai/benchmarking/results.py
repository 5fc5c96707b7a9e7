"""The tables of a page of results, written from the files beside it.

A table of the page lies between two comments of HTML, of which the first names how it is made:

    <!-- table: KIND FILE [FORM ...] -->
    <!-- end of table -->

KIND is one of :data:`KINDS`, FILE a CSV beside the page, and FORM the forms of attention that have a column. What lies
between is replaced by the table and its caption: the command that measures the same cells, and what the file says of
the machine, the versions and the commit.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from seqnorm_monai.benchmarking import reading, streaming, summary
from seqnorm_monai.benchmarking.commands import attention_command, only, reading_command, streaming_command
from seqnorm_monai.benchmarking.streaming import Row

TABLE = re.compile(r"(?<=<!-- table: )(?P<words>[^\n]+?)( -->\n).*?(?=<!-- end of table -->)", re.S)


class Kind(NamedTuple):
    """table: rows and forms to Markdown. command: rows to the command that measures them again."""

    table: Callable[[Sequence[Row], Sequence[str]], str]
    command: Callable[[Sequence[Row]], str]


KINDS = {
    "time": Kind(partial(summary.markdown_table, memory=False), attention_command),
    "memory": Kind(partial(summary.markdown_table, memory=True), attention_command),
    "streaming": Kind(lambda rows, forms: streaming.markdown_table(rows), streaming_command),
    "reading": Kind(lambda rows, forms: reading.markdown_table(rows), reading_command),
}


def read_rows(path: Path) -> list[Row]:
    """The rows of a result file, by column."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _rounds(rows: Sequence[Row]) -> str:
    return f", medians of {only(rows, 'repeats')} rounds in turn" if "repeats" in rows[0] else ""


def caption(rows: Sequence[Row], name: str, command: str) -> str:
    """Where a table comes from: its file, the machine, the versions, the commit, and the command."""
    cores = f"{only(rows, 'threads')} threads on {only(rows, 'hardware')}"
    dtype = [only(rows, "dtype")] if "dtype" in rows[0] else []
    versions = [f"{package} {only(rows, package)}" for package in ("torch", "monai") if package in rows[0]]
    run = ", ".join((cores, *dtype, *versions, f"commit {only(rows, 'commit')[:7]}")) + _rounds(rows)
    return f"[{name}]({name}): {run}.\n`{command}`"


def write_table(words: str, folder: Path) -> str:
    """The table that the words of a comment ask for, and its caption.

    Raises:
        ValueError: if the words name no kind of :data:`KINDS`, or no file beside the page.
    """
    kind, _, rest = words.partition(" ")
    name, *forms = rest.split() or [""]
    if kind not in KINDS or not (folder / name).is_file():
        raise ValueError(f"'table: {words}' must name a kind of {', '.join(KINDS)} and a file in {folder}")
    rows = read_rows(folder / name)
    return f"{KINDS[kind].table(rows, forms)}\n\n{caption(rows, name, KINDS[kind].command(rows))}\n"


def write_tables(page: str, folder: Path) -> str:
    """The page with every table written anew from its file in ``folder``; all other text stays."""
    return TABLE.sub(lambda found: f"{found['words']}{found[2]}{write_table(found['words'], folder)}", page)
