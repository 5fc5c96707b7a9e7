"""The figure: time and memory of a whole network against the resolution, from the CSV of the scaling benchmark."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seqnorm_monai.benchmarking.runs import Row
from seqnorm_monai.optional import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# label, colour, line, marker, and width of each form; colours are those of Okabe and Ito, told apart by all eyes
STYLES = {
    "seqnorm": ("sequence norm (ours)", "#0072B2", "-", "o", 2.6),
    "seqnorm-literal": ("sequence norm, as written", "#56B4E9", "--", "o", 1.5),
    "sima": ("SimA", "#009E73", "-", "s", 1.3),
    "softmax": ("softmax (fused)", "#D55E00", "-", "^", 2.0),
    "linear": ("linear attention", "#CC79A7", "-", "v", 1.3),
    "xcit": ("XCiT", "#E69F00", "-", "D", 1.3),
    "performer": ("Performer", "#7F7F7F", "-", "P", 1.3),
}
PANELS = (
    ("training", "seconds_per_image", 1.0, "training step: seconds"),
    ("inference", "seconds_per_image", 1.0, "inference: seconds"),
    ("training", "added_bytes", 2.0**-30, "training step: memory in GiB"),
    ("inference", "added_bytes", 2.0**-30, "inference: memory in GiB"),
)


def new_figure() -> Figure:
    """An empty figure that needs no screen.

    Raises:
        ImportError: if matplotlib is not installed; the message says how to install it.
    """
    # 8.4 inches at 150 dots are 1,260 pixels, shown at two thirds in a README
    return require("matplotlib.figure", "benchmark").Figure(figsize=(8.4, 6.6), dpi=150, layout="constrained")


def read_rows(path: str | Path, *, variant: str) -> list[Row]:
    """The rows of one network at batch 1 from the CSV of scripts/benchmark_scaling.py.

    Raises:
        ValueError: if there is none.
    """
    with Path(path).open(encoding="utf-8", newline="") as stream:
        rows = [
            row
            for row in csv.DictReader(stream)
            if row["subject"] == "network" and row["variant"] == variant and row["batch"] == "1"
        ]
    if not rows:
        raise ValueError(f"{path} has no row of the network {variant!r} at batch 1")
    return rows


def curve(rows: Sequence[Row], *, mode: str, form: str, column: str) -> list[tuple[int, float]]:
    """(pixels, value) of one form in one panel, by size; rows that were skipped have no value."""
    chosen = [row for row in rows if row["mode"] == mode and row["form"] == form and row[column]]
    return sorted((int(row["image_size"]), float(row[column])) for row in chosen)


def _draw_panel(axes: Axes, rows: Sequence[Row], mode: str, column: str, factor: float, title: str) -> None:
    sizes = sorted({int(row["image_size"]) for row in rows})
    for form, (label, colour, line, marker, width) in STYLES.items():
        points = curve(rows, mode=mode, form=form, column=column)
        if points:
            axes.plot(
                [size for size, _ in points],
                [value * factor for _, value in points],
                color=colour,
                linestyle=line,
                marker=marker,
                markersize=4.5,
                linewidth=width,
                label=label,
                zorder=3 if form == "seqnorm" else 2,
            )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlim(sizes[0] * 0.9, sizes[-1] * 1.1)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    ticks = [mantissa * 10.0**power for power in range(-5, 6) for mantissa in (1, 2, 5)]
    low, high = axes.get_ylim()
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_ylim(low, high)
    axes.grid(alpha=0.3)
    axes.set_title(title, fontsize=11, loc="left")


def draw_scaling(rows: Sequence[Row]) -> Figure:
    """Four panels: time and memory of a step of training and of an inference, one line for each form."""
    figure = new_figure()
    panels = figure.subplots(2, 2, sharex=True)
    for axes, (mode, column, factor, title) in zip(panels.flat, PANELS, strict=True):
        _draw_panel(axes, rows, mode, column, factor, title)
    for axes in panels[1]:
        axes.set_xlabel("pixels along a side")
    lines: dict[str, object] = {}
    for axes in panels.flat:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            lines.setdefault(label, handle)
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=10)
    first = rows[0]
    cores = f", {first['cores']} cores" if first["device"] == "cpu" else ""
    title = f"ViT-{first['variant']}, batch 1, {first['dtype']}: {first['hardware']}{cores}"
    figure.suptitle(title, fontsize=11)
    return figure
