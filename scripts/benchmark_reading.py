"""Seconds to read and decode DICOM: our readers and MONAI's, the same files, in turn in one process.

    python scripts/benchmark_reading.py --images bundles/chest_radiograph_classification/sample_data/images \\
        --series FOLDER_OF_ONE_SERIES --output reading.csv

``--images`` is a folder of single images, ``--series`` a folder that holds the slices of one volume. Every round reads
everything once with every reader, A B C A B C; the first round, which also fills the system's file cache, is not
counted. ``first epoch`` and ``second epoch`` go through ``seqnorm_monai.caching.CachedDataset`` with its files in a new
folder, each in a data set of its own, so that nothing comes from memory.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from monai.transforms import Compose, LoadImage

from seqnorm_monai.benchmarking.environment import describe_environment
from seqnorm_monai.caching import CachedDataset
from seqnorm_monai.transforms import LoadRadiograph, LoadRadiographd, LoadStudy, LoadStudyd

OURS = "seqnorm_monai"
Clock = Callable[[], float]


def seconds_of(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def readers(ours: Callable[[Path], object]) -> dict[str, Callable[[Path], object]]:
    """Ours and MONAI's two, each from a path to a tensor."""
    return {
        OURS: ours,
        "ITKReader": LoadImage(reader="ITKReader"),
        "PydicomReader": LoadImage(reader="PydicomReader"),
    }


def clocks(paths: Sequence[Path], ours: Callable[[Path], object]) -> dict[str, Clock]:
    """Seconds of one pass over the paths for each reader."""

    def all_of(read: Callable[[Path], object]) -> Clock:
        return lambda: seconds_of(lambda: [read(path) for path in paths])

    return {name: all_of(read) for name, read in readers(ours).items()}


def epoch_clock(paths: Sequence[Path], transform: Callable[..., object]) -> Callable[[], tuple[float, float]]:
    """Seconds of the first and of the second epoch over the paths, through files in a new folder."""
    items = [{"image": str(path)} for path in paths]

    def epoch(folder: str) -> float:
        data = CachedDataset(items, Compose([transform]), cache_rate=0.0, cache_dir=folder, progress=False)
        return seconds_of(lambda: [data[index] for index in range(len(items))])

    def clock() -> tuple[float, float]:
        with tempfile.TemporaryDirectory() as folder:
            return epoch(folder), epoch(folder)

    return clock


def measure(
    what: str, paths: Sequence[Path], ours: Callable[[Path], object], keyed: Callable[..., object], repeats: int
) -> list[dict[str, str]]:
    """Rows of the table: one for each reader and two for the epochs."""
    read, epochs = clocks(paths, ours), epoch_clock(paths, keyed)
    seconds: dict[str, list[float]] = {name: [] for name in (*read, "first epoch", "second epoch")}
    for _ in range(repeats + 1):
        for name, clock in read.items():
            seconds[name].append(clock())
        first, second = epochs()
        seconds["first epoch"].append(first)
        seconds["second epoch"].append(second)
    rows = []
    for name, values in seconds.items():
        counted = values[1:]
        ratio = median(a / b for a, b in zip(counted, seconds[OURS][1:], strict=True))
        rows.append(
            {
                "what": what,
                "count": str(len(paths)),
                "reader": name,
                "seconds_median": f"{median(counted):.4g}",
                "seconds_min": f"{min(counted):.4g}",
                "seconds_max": f"{max(counted):.4g}",
                "times_ours": f"{ratio:.3g}",
                "repeats": str(repeats),
            }
        )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of single images")
    parser.add_argument("--series", type=Path, nargs="*", default=[], help="folders with the slices of one volume each")
    parser.add_argument("--limit", type=int, default=50, help="images at most")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    rows: list[dict[str, str]] = []
    if arguments.images:
        paths = sorted(arguments.images.rglob("*.dcm"))[: arguments.limit]
        rows += measure("image", paths, LoadRadiograph(), LoadRadiographd("image"), arguments.repeats)
    if arguments.series:
        rows += measure("series", arguments.series, LoadStudy(), LoadStudyd("image"), arguments.repeats)
    if not rows:
        parser.error("name --images or --series")
    environment = describe_environment("cpu")
    with arguments.output.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*rows[0], *environment], lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | environment for row in rows)
    for row in rows:
        print(f"{row['what']:<8}{row['count']:>4} {row['reader']:<16}{row['seconds_median']:>10} s  {row['times_ours']}x")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
