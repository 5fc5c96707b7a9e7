"""The rows of a benchmark as tables: of one cell for the terminal, of many for a page, as multiples of ours."""

from __future__ import annotations

from collections.abc import Sequence

from seqnorm_monai.benchmarking.runs import OURS, Row
from seqnorm_monai.benchmarking.tables import aligned, markdown

TERMINAL = {"form": "<22", "median s": ">10", "min": ">10", "max": ">10"}
TERMINAL |= {"x ours": ">8", "rate": ">7", "added MB": ">10", "formula MB": ">12"}
LEFT_OUT = "left out"


def _where(row: Row, otherwise: str) -> str:
    return f"{row['image_size']} px" if row["image_size"] else otherwise


def _megabytes(count: str) -> str:
    return f"{int(count) / 1e6:,.0f}" if count else ""


def _times(ratio: str) -> str:
    return f"{float(ratio):.2f}" if ratio else ""


def _terminal_cells(row: Row) -> tuple[str, ...]:
    if not row["seconds_median"]:
        return (f"{row['form']:<22}  {row['skipped']}",)
    return (
        row["form"],
        *(f"{float(row[f'seconds_{name}']):.4g}" for name in ("median", "min", "max")),
        _times(row["times_ours"]),
        f"{float(row['share_of_matrix_rate']):.0%}",
        _megabytes(row["added_bytes"]),
        _megabytes(row["kept_bytes_formula"] or row["inference_peak_bytes_formula"]),
        row["skipped"],
    )


def format_table(rows: Sequence[Row]) -> str:
    """The rows of one cell for the terminal, under a line that says what they share."""
    first = rows[0]
    words = (
        *(first["subject"], first["variant"], first["mode"], _where(first, f"C = {first['hidden']}")),
        *(f"N = {first['tokens']}", f"batch {first['batch']}", first["device"], first["dtype"]),
        "compiled" if first["compiled"] == "True" else "",
    )
    return "\n".join((" ".join(filter(None, words)), aligned(TERMINAL, map(_terminal_cells, rows))))


def cells_of(rows: Sequence[Row]) -> list[dict[str, Row]]:
    """The rows of each cell (one subject, size and mode) by their form, in the order of the file."""
    cells: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("subject", "variant", "image_size", "tokens", "batch", "mode"))
        cells.setdefault(key, {})[row["form"]] = row
    return list(cells.values())


def _label(row: Row) -> str:
    batch = "" if row["batch"] == "1" else f", batch {row['batch']}"
    return f"{row['mode']} {_where(row, row['tokens'] + ' tokens')}{batch}"


def _time_cells(ours: Row, peers: Sequence[Row]) -> list[str]:
    seconds = f"{float(ours['seconds_median']):.3g} s" if ours["seconds_median"] else ""
    return [seconds, *(_times(row["times_ours"]) for row in peers)]


def _memory_cells(ours: Row, peers: Sequence[Row]) -> list[str]:
    own = ours["added_bytes"]
    if not own:
        return [""] * (1 + len(peers))
    ratios = (float(row["added_bytes"]) / float(own) if row["added_bytes"] else "" for row in peers)
    return [f"{_megabytes(own)} MB", *(_times(str(ratio)) for ratio in ratios)]


def markdown_table(rows: Sequence[Row], forms: Sequence[str], *, memory: bool) -> str:
    """One line for each cell: ours in seconds (or megabytes that a step adds), the other forms as multiples of it."""
    lines = []
    for cell in cells_of(rows):
        ours = cell[OURS]
        peers = [cell.get(form, dict.fromkeys(ours, "")) for form in forms]
        cells = _memory_cells(ours, peers) if memory else _time_cells(ours, peers)
        lines.append([_label(ours), *(text or LEFT_OUT for text in cells)])
    return markdown(("", "ours", *forms), lines)
