"""The one writer of tables: Markdown for a page, aligned columns for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; an empty cell takes a single space."""
    lines = ["|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|" for cells in (header, *rows)]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])


def aligned(columns: Mapping[str, str], rows: Iterable[Sequence[str]]) -> str:
    """A table of columns that line up.

    Args:
        columns: the heading of each column, and the alignment and width of its cells, such as ``>10``.
        rows: cells from the first column on. Those behind the last column, such as a remark, follow as they are.
    """
    layouts = list(columns.values())
    lines = []
    for cells in (tuple(columns), *rows):
        line = "".join(f"{cell:{layout}}" for cell, layout in zip(cells, layouts))
        lines.append("  ".join((line, *cells[len(layouts) :])).rstrip())
    return "\n".join(lines)
