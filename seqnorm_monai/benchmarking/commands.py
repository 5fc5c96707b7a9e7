"""The command that measures the cells of a result file again, written from the file's own columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Row = dict[str, str]


def _distinct(rows: Iterable[Row], column: str) -> list[str]:
    return list(dict.fromkeys(row[column] for row in rows))


def only(rows: Sequence[Row], column: str) -> str:
    """The one value of a column.

    Raises:
        ValueError: if the rows have several: one caption would not hold for all of them.
    """
    values = _distinct(rows, column)
    if len(values) != 1:
        raise ValueError(f"the column {column} has several values in one file: {', '.join(values)}")
    return values[0]


def _option(name: str, values: Sequence[str]) -> str:
    return " ".join((f"--{name}", *values))


def _shared_options(rows: Sequence[Row]) -> list[str]:
    """What both benchmarks of attention share, where it is not their default."""
    chosen = [_option("kinds", _distinct(rows, "form")), _option("repeats", [only(rows, "repeats")])]
    for name, default in (("device", "cpu"), ("dtype", "float32")):
        value = only(rows, name)
        chosen += [_option(name, [value])] if value != default else []
    chosen += ["--compile"] if only(rows, "compiled") == "True" else []
    return [*chosen, *([] if any(row["added_bytes"] for row in rows) else ["--no-memory"])]


def _size(row: Row) -> str:
    return row["image_size"] if row["batch"] == "1" else f"{row['image_size']}x{row['batch']}"


def _network_command(rows: Sequence[Row]) -> str:
    sizes = {
        mode: dict.fromkeys(_size(row) for row in rows if row["mode"] == mode) for mode in ("training", "inference")
    }
    words = [_option("variants", _distinct(rows, "variant"))]
    words += [_option(mode, list(found)) for mode, found in sizes.items()]
    return " ".join(("python scripts/benchmark_scaling.py", *words, *_shared_options(rows)))


def _layer_command(rows: Sequence[Row]) -> str:
    words = [_option(name, _distinct(rows, name)) for name in ("tokens", "hidden", "batch")]
    words.append(_option("modes", _distinct(rows, "mode")))
    return " ".join(("python scripts/benchmark_attention.py", *words, *_shared_options(rows)))


def attention_command(rows: Sequence[Row]) -> str:
    """For a file of ``benchmark_scaling.py`` or ``benchmark_attention.py``."""
    return _network_command(rows) if only(rows, "subject") == "network" else _layer_command(rows)


def streaming_command(rows: Sequence[Row]) -> str:
    """For a file of ``benchmark_streaming.py``: a run for each task, joined as a shell does."""
    runs = []
    for task in _distinct(rows, "task"):
        found = [row for row in rows if row["task"] == task]
        large = [row for row in found if row["tokens_in"] != "ordinary"]
        words = [_option("tasks", [task]), _option("kinds", _distinct(found, "tokens_in"))]
        words += [_option("size", [only(large, "pixels")])]
        words += [_option(name, [only(found, name)]) for name in ("patch", "network")]
        runs.append(" ".join(("python scripts/benchmark_streaming.py", *words)))
    return " && ".join(runs)


def reading_command(rows: Sequence[Row]) -> str:
    """For a file of ``benchmark_reading.py``; the folders of series are the user's own."""
    cases = _distinct(rows, "case")
    words = ["--series FOLDER"] if any(case.startswith("series") for case in cases) else []
    words.append(_option("repeats", [only(rows, "repeats")]))
    return " ".join(("python scripts/benchmark_reading.py", *words))
