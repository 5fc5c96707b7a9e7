"""A table for a page out of the rows of a benchmark: how many times as long, and as much memory, as ours."""

from __future__ import annotations

from collections.abc import Sequence

from seqnorm_monai.benchmarking.runs import OURS, Row


def _label(row: Row) -> str:
    where = f"{row['image_size']} px" if row["image_size"] else f"{row['tokens']} tokens"
    batch = "" if row["batch"] == "1" else f", batch {row['batch']}"
    return f"{row['mode']} {where}{batch}"


def _seconds(row: Row) -> str:
    return f"{float(row['seconds_median']):.3g} s" if row["seconds_median"] else "left out"


def _megabytes(row: Row) -> str:
    return f"{float(row['added_bytes']) / 1e6:,.0f} MB" if row["added_bytes"] else "left out"


def _times(row: Row) -> str:
    return f"{float(row['times_ours']):.2f}" if row["times_ours"] else "left out"


def _memory_ratio(row: Row, ours: Row) -> str:
    if not (row["added_bytes"] and ours["added_bytes"]):
        return "left out"
    return f"{float(row['added_bytes']) / float(ours['added_bytes']):.2f}"


def cells_of(rows: Sequence[Row]) -> list[dict[str, Row]]:
    """The rows of each cell (one subject, size and mode) by their form, in the order of the file."""
    cells: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("subject", "variant", "image_size", "tokens", "batch", "mode"))
        cells.setdefault(key, {})[row["form"]] = row
    return list(cells.values())


def markdown_table(rows: Sequence[Row], forms: Sequence[str], *, memory: bool) -> str:
    """One line for each cell: ours in seconds (or megabytes that a step adds), the other forms as multiples of it."""
    lines = [
        "| | " + " | ".join(("ours", *forms)) + " |",
        "|---" * (len(forms) + 2) + "|",
    ]
    for cell in cells_of(rows):
        ours = cell[OURS]
        first = _megabytes(ours) if memory else _seconds(ours)
        peers = [cell.get(form, dict.fromkeys(ours, "")) for form in forms]
        others = [_memory_ratio(row, ours) if memory else _times(row) for row in peers]
        lines.append("| " + " | ".join((_label(ours), first, *others)) + " |")
    return "\n".join(lines)
