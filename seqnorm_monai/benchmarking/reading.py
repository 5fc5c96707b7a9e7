"""Seconds to read and decode: our transforms and MONAI's readers on the same files, in turn in one process."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from monai.data import CacheDataset, DataLoader, Dataset
from monai.transforms import LoadImage, LoadImaged, MapTransform

from seqnorm_monai.benchmarking.tables import markdown
from seqnorm_monai.benchmarking.timing import interleave, paired_ratio, seconds_of, summarise
from seqnorm_monai.data.caching import CachedDataset
from seqnorm_monai.optional import require

OURS = "ours"
READERS = ("ITKReader", "PydicomReader")
FIRST, WORKERS, DISK, MEMORY = "first epoch", "first epoch, 2 workers", "second epoch, disk", "second epoch, memory"
COLUMNS = ("case", "sources", "megabytes", "reader", "equal", "seconds_median", "seconds_min", "seconds_max")
COLUMNS += ("times_ours", "repeats")
_WORKER_ITEMS = 8
Row = dict[str, str]


@dataclass(frozen=True)
class ReadingCase:
    """Sources (files of one image, or folders of one volume) and our transform for them, keyed by "image"."""

    name: str
    sources: Sequence[Path]
    transform: MapTransform

    @property
    def items(self) -> list[dict[str, str]]:
        return [{"image": str(path)} for path in self.sources]

    def read(self, transform: Callable[[dict[str, str]], object]) -> None:
        for item in self.items:
            transform(item)


def measure(case: ReadingCase, *, repeats: int) -> list[Row]:
    """Rows for our transform, MONAI's readers and the epochs of a cached data set; ratios are medians of the rounds.

    Raises:
        ImportError: if itk is not installed; the message says how to install it.
    """
    require("itk", "benchmark")
    with _quiet():
        return _measure(case, repeats)


@contextmanager
def _quiet() -> Iterator[None]:
    """MONAI's PydicomReader warns of an optional package whenever it is made."""
    logger = logging.getLogger("monai.data.nvimgcodec_pydicom_plugin")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logger.setLevel(level)


def _measure(case: ReadingCase, repeats: int) -> list[Row]:
    readers = {OURS: case.transform, **{name: LoadImaged("image", reader=name) for name in READERS}}
    with tempfile.TemporaryDirectory() as folder:
        clocks: dict[str, Callable[[], float]] = {name: _clock(case, reader) for name, reader in readers.items()}
        clocks |= _epochs(case, Path(folder))
        # one round that is not counted: it fills the system's file cache and the data sets' caches
        interleave(clocks, repeats=1)
        seconds = interleave(clocks, repeats=repeats)
    return _rows(case, seconds)


def _clock(case: ReadingCase, transform: Callable[[dict[str, str]], object]) -> Callable[[], float]:
    return lambda: seconds_of(lambda: case.read(transform), "cpu")


def _epochs(case: ReadingCase, folder: Path) -> dict[str, Callable[[], float]]:
    """An epoch through `CachedDataset`: into an empty folder, from a full one, and from memory."""
    kept = CachedDataset(case.items, [case.transform], cache_rate=0, cache_dir=folder / "kept", progress=False)
    memory = CacheDataset(case.items, [case.transform], progress=False)

    def epoch(dataset: Dataset) -> float:
        return seconds_of(lambda: [dataset[index] for index in range(len(dataset))], "cpu")

    def first() -> float:
        with tempfile.TemporaryDirectory(dir=folder) as empty:
            return epoch(CachedDataset(case.items, [case.transform], cache_rate=0, cache_dir=empty, progress=False))

    # enough items for both processes, which are started once, as for a training of many epochs
    times = -(-_WORKER_ITEMS // len(case.items))
    loader = DataLoader(
        Dataset(case.items * times, case.transform),
        num_workers=2,
        batch_size=1,
        collate_fn=list,
        persistent_workers=True,
    )

    def workers() -> float:
        return seconds_of(lambda: sum(1 for _ in loader), "cpu") / times

    return {FIRST: first, WORKERS: workers, DISK: lambda: epoch(kept), MEMORY: lambda: epoch(memory)}


def _rows(case: ReadingCase, seconds: Mapping[str, Sequence[float]]) -> list[Row]:
    ours = [case.transform(item)["image"] for item in case.items]
    megabytes = sum(image.numel() * image.element_size() for image in ours) / 1e6
    rows = []
    for name, values in seconds.items():
        timing = summarise(values)
        rows.append(
            {
                "case": case.name,
                "sources": str(len(case.sources)),
                "megabytes": f"{megabytes:.1f}",
                "reader": name,
                "equal": _equal(case, name, ours) if name in READERS else "",
                "seconds_median": f"{timing.median:.4g}",
                "seconds_min": f"{timing.minimum:.4g}",
                "seconds_max": f"{timing.maximum:.4g}",
                "times_ours": f"{paired_ratio(values, seconds[OURS]):.3g}",
                "repeats": str(timing.repeats),
            }
        )
    return rows


def _equal(case: ReadingCase, reader: str, ours: Sequence[object]) -> str:
    """Whether MONAI's reader has the same values, but for axes that are turned or flipped."""
    load = LoadImage(reader=reader)
    found = [np.sort(np.asarray(load(path)), axis=None) for path in case.sources]
    return str(all(np.array_equal(one, np.sort(np.asarray(two), axis=None)) for one, two in zip(found, ours)))


def markdown_table(rows: Sequence[Row]) -> str:
    """One line for each case: ours in milliseconds for each source, then the others as multiples of it."""
    names = (*READERS, FIRST, WORKERS, DISK, MEMORY)
    lines = []
    for case in dict.fromkeys(row["case"] for row in rows):
        found = {row["reader"]: row for row in rows if row["case"] == case}
        each = 1000 * float(found[OURS]["seconds_median"]) / int(found[OURS]["sources"])
        lines.append((case, f"{each:.3g} ms", *(f"{float(found[name]['times_ours']):.3g}" for name in names)))
    return markdown(("", "ours", *names), lines)
