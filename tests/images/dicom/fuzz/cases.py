"""One damaged file at a time: read it, and hold what comes out against what the file says.

``python -m tests.images.dicom.fuzz.cases FIRST COUNT`` runs these cases and prints the number of each before it starts,
so that the parent knows which one ended the process. It fails with a traceback at the first wrong one.
"""

from __future__ import annotations

import gzip
import json
import logging
import resource
import signal
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from seqnorm_monai.images.dicom.errors import UnreadableFileError
from seqnorm_monai.images.nifti import NiftiReadError, read_nifti
from seqnorm_monai.images.sources import open_sources
from tests.images.dicom.fuzz.mutations import DICOM, GENERAL, NIFTI, mutated
from tests.images.dicom.fuzz.oracles import Image, check_dicom, check_nifti, check_volumes, read_volumes
from tests.images.dicom.fuzz.samples import DICOM_FILES, dicom_file, nifti_file, series_files, zip_file
from tests.makers.reading import load_nifti

SEED = 20
SECONDS = 30
# above what the process has when it starts
MEMORY = 3 << 30


def run_case(case: int, folder: Path) -> str:
    """Run one case in a folder of its own; what came out, for the statistics. Raises whatever is wrong."""
    random = np.random.default_rng([SEED, case])
    kind = case % 8
    if kind == 6:
        return _nifti_case(random, folder)
    if kind == 7:
        return _source_case(random, folder)
    if kind == 5:
        return _series_case(random, folder)
    name = DICOM_FILES[random.integers(len(DICOM_FILES))]
    content, mutations = mutated(dicom_file(name), DICOM, random)
    path = folder / "case.dcm"
    path.write_bytes(content)
    return f"{name} {mutations}: " + check_dicom(path, original_of(name, folder))


def _series_case(random: np.random.Generator, folder: Path) -> str:
    """One or two files of a series are damaged."""
    contents = dict(series_files())
    names = []
    for _ in range(1 + (random.random() < 0.2)):
        name = str(random.choice(list(contents)))
        contents[name], mutations = mutated(contents[name], DICOM, random)
        names.append(mutations)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return f"series {'+'.join(names)}: " + check_volumes(read_volumes({name: folder / name for name in contents}))


def _nifti_case(random: np.random.Generator, folder: Path) -> str:
    content, mutations = mutated(nifti_file(int(random.integers(4))), NIFTI, random)
    packed = random.random() < 0.3
    path = folder / ("case.nii.gz" if packed else "case.nii")
    data = gzip.compress(content, 1)
    if packed and random.random() < 0.5:
        data, more = mutated(data, GENERAL, random)
        mutations, content = f"{mutations}+gzip {more}", None
    path.write_bytes(data if packed else content)
    try:
        volumes = read_nifti(path)
        tensors = [load_nifti(volume) for volume in volumes[:5]]
    except NiftiReadError as error:
        assert error.path == path and error.reason
        return f"nifti {mutations}: refused"
    if content is None:
        # the checksum held: these are the bytes that were packed, or so few were changed that none is a voxel's
        content = gzip.decompress(path.read_bytes())
    check_nifti(content, volumes, tensors)
    return f"nifti {mutations}: value"


def _source_case(random: np.random.Generator, folder: Path) -> str:
    directory = random.random() < 0.3
    content = dicom_file("DICOMDIR") if directory else zip_file()
    data, mutations = mutated(content, DICOM if directory else GENERAL, random)
    path = folder / ("DICOMDIR" if directory else "case.zip")
    path.write_bytes(data)
    try:
        with open_sources(path) as sources:
            root = (folder if directory else Path(tempfile.gettempdir())).resolve()
            for file in sources.files:
                assert file.path.resolve().is_relative_to(root) and file.path.is_file()
                if not directory and file.path != path and file.name.endswith("b.txt"):
                    assert file.path.read_bytes() == b"text " * 999
    except UnreadableFileError as error:
        assert error.path == path and error.reason
        return f"source {mutations}: refused"
    return f"source {mutations}: value"


_originals: dict[str, Image] = {}


def original_of(name: str, folder: Path) -> Image:
    if name not in _originals:
        path = folder / "original.dcm"
        path.write_bytes(dicom_file(name))
        _originals[name] = Image.read(path)
    return _originals[name]


class _Strict(logging.Handler):
    """What is logged is an error: it could quote a patient's name."""

    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError(f"logged by {record.name}")


def _alarm(signal_number: int, frame: object) -> None:
    raise TimeoutError(f"a case took more than {SECONDS} s")


def main(first: int, count: int) -> None:
    torch.set_num_threads(1)
    logging.getLogger().addHandler(_Strict(logging.WARNING))
    logging.raiseExceptions = True
    used = 1024 * int(Path("/proc/self/status").read_text().split("VmSize:")[1].split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    signal.signal(signal.SIGALRM, _alarm)
    outcomes: Counter[str] = Counter()
    for case in range(first, first + count):
        print(case, flush=True)
        signal.alarm(SECONDS)
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("error")
            outcomes[run_case(case, Path(folder)).rsplit(": ", 1)[-1]] += 1
        signal.alarm(0)
    print(json.dumps(outcomes), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
