"""The numbers of an evaluation as files, and as text for reading."""

import csv
import json
import os
from pathlib import Path
from typing import Any

from seqnorm_monai.atomic_files import replacing
from seqnorm_monai.evaluation.ranking import METRICS


def write_metrics(metrics: dict[str, Any], folder: str | os.PathLike[str]) -> None:
    """Write `metrics.json` (strict: no NaN) and `metrics.csv` (one row per class, then the mean) into `folder`."""
    text = json.dumps(metrics, indent=2, allow_nan=False)
    with replacing(Path(folder) / "metrics.json") as stream:
        stream.write(text + "\n")
    counts = ("num_images", "num_patients", "num_positive_images", "num_positive_patients", "num_degenerate_replicates")
    columns = [f"{metric}{part}" for metric in METRICS for part in ("", "_lower", "_upper")]
    with replacing(Path(folder) / "metrics.csv") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["class", *counts, *columns, "reason"])
        for name, row in [*metrics["classes"].items(), ("mean", metrics["mean"])]:
            bounds = [(row[metric] or {}).get(part) for metric in METRICS for part in ("value", "lower", "upper")]
            writer.writerow([name, *(row.get(count) for count in counts), *bounds, row["reason"]])


def text_table(metrics: dict[str, Any]) -> str:
    """The metrics for reading: class, positive images, and each metric with its interval."""
    lines = [f"{'class':<28}{'positive':>9}" + "".join(f"{name:>26}" for name in METRICS)]
    for name, row in [*metrics["classes"].items(), ("mean", metrics["mean"])]:
        cells = "".join(f"{_interval(row[metric]):>26}" for metric in METRICS)
        lines.append(f"{name:<28}{row.get('num_positive_images', ''):>9}{cells}")
    return "\n".join(lines)


def _interval(metric: dict[str, float] | None) -> str:
    if metric is None:
        return "-"
    if metric["lower"] is None:
        return f"{metric['value']:.3f}"
    return f"{metric['value']:.3f} [{metric['lower']:.3f}, {metric['upper']:.3f}]"
