"""Seconds to read and decode DICOM: ours, MONAI's ITKReader and PydicomReader, and the epochs of a cached data set.

    python scripts/benchmark_reading.py --output reading.csv
    python scripts/benchmark_reading.py --series FOLDER_OF_A_SERIES ANOTHER --output reading.csv

Read are the radiographs of the chest bundle's sample, generated radiographs and volumes in the usual transfer
syntaxes, and folders that hold one series each. Every round reads everything once with every reader, A B C A B C, in
one process and from the system's file cache. "x ours" is the median over the rounds of a reader's time by ours;
"first epoch" writes the decoded images to disk too, "2 workers" sends them to the main process.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from seqnorm_monai.atomic_files import GrowingTable
from seqnorm_monai.benchmarking.environment import describe_environment
from seqnorm_monai.benchmarking.reading import COLUMNS, ReadingCase, markdown_table, measure
from seqnorm_monai.benchmarking.study_samples import SYNTAXES, write_radiographs, write_volume
from seqnorm_monai.data import LoadRadiographd, LoadStudyd

SAMPLE = Path(__file__).parent.parent / "bundles" / "chest_radiograph_classification" / "sample_data" / "images"


def cases(arguments: argparse.Namespace, folder: Path) -> Iterator[ReadingCase]:
    """The cases one after the other, so that generated files of one are the only ones on the disk."""
    sample = sorted(SAMPLE.rglob("*.dcm"))[: arguments.count]
    yield ReadingCase("chest sample, JPEG", sample, LoadRadiographd("image"))
    for path in arguments.series:
        yield ReadingCase(f"series, {len(list(path.iterdir()))} files", [path], LoadStudyd("image"))
    for syntax in arguments.syntaxes:
        paths = write_radiographs(folder / syntax / "dx", syntax, count=4, size=arguments.size)
        yield ReadingCase(f"radiograph {arguments.size} px, {syntax}", paths, LoadRadiographd("image"))
        write_volume(folder / syntax / "ct", syntax, slices=arguments.slices, size=512)
        name = f"volume 512 x 512 x {arguments.slices}, {syntax}"
        yield ReadingCase(name, [folder / syntax / "ct"], LoadStudyd("image"))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=Path, nargs="*", default=[], help="folders with the slices of one volume each")
    parser.add_argument("--syntaxes", nargs="*", choices=tuple(SYNTAXES), default=list(SYNTAXES))
    parser.add_argument("--count", type=int, default=50, help="radiographs of the sample (default 50)")
    parser.add_argument("--size", type=int, default=2048, help="of generated radiographs (default 2048)")
    parser.add_argument("--slices", type=int, default=64, help="of generated volumes (default 64)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--threads", type=int, help="of torch (default: torch's)")
    parser.add_argument("--output", type=Path, required=True, metavar="CSV")
    arguments = parser.parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    environment = describe_environment("cpu")
    table = GrowingTable(arguments.output, [*COLUMNS, *environment])
    table.start()
    with tempfile.TemporaryDirectory() as folder:
        every = []
        for case in cases(arguments, Path(folder)):
            rows = measure(case, repeats=arguments.repeats)
            table.append([*row.values(), *environment.values()] for row in rows)
            print(markdown_table(rows).splitlines()[-1], flush=True)
            every += rows
    table.finish()
    print("\n" + markdown_table(every))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
