"""Two ends of one way: what a datalist names and what a folder holds are read alike, or refused for the same reason."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from seqnorm_monai.data import LoadRadiograph, LoadStudy, find_images
from seqnorm_monai.data.fault_tolerant import FaultTolerantDataset, Rejection
from seqnorm_monai.images.errors import ImageReadError
from seqnorm_monai.images.study_image import StudyImage
from tests.makers.bundles import CHEST, SHARED
from tests.makers.studies import write_phases

PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"
PAIR = SHARED / "data" / "mri_dicom_pgbm"
CASES = SHARED / "cases" / "make_cases.py"
# what a file is refused for because of its neighbours, which it has not where it is read alone
OF_NEIGHBOURS = ("its series is refused", "a copy of", "the same SOPInstanceUID as", "in part", "an archive;")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    subprocess.run([sys.executable, str(CASES), str(folder)], check=True, capture_output=True, cwd=folder)
    return folder


def outcome(loader: LoadStudy, source: str | StudyImage) -> tuple[str, Any]:
    """Values, affine and meta data but for the file's name, or why there are none."""
    try:
        image = loader(source)
    except ImageReadError as error:
        return error.reason + (f" ({error.advice})" if error.advice else ""), None
    meta = {key: value for key, value in image.meta.items() if key != "filename_or_obj"}
    return "", (image.numpy(), image.affine.numpy(), meta)


def assert_same(one: tuple[str, Any], other: tuple[str, Any]) -> None:
    assert one[0] == other[0]
    if one[1] is not None:
        for a, b in zip(one[1][:2], other[1][:2], strict=True):
            np.testing.assert_array_equal(a, b)
        assert one[1][2].keys() == other[1][2].keys()
        for key, value in one[1][2].items():
            np.testing.assert_array_equal(value, other[1][2][key], err_msg=key)


def alone(files: tuple[str, ...], folder: Path) -> str:
    """The path by which a datalist names these files: the file, or a folder that holds nothing else."""
    if len(files) == 1:
        return files[0]
    shutil.rmtree(folder, ignore_errors=True)
    for number, file in enumerate(files):
        (folder / str(number)).mkdir(parents=True)
        os.symlink(file, folder / str(number) / Path(file).name)
    return str(folder)


def both_ends(folder: Path, scratch: Path) -> Counter[str]:
    """Every image and every lone file of a folder through both ends; how many of which kind."""
    counts: Counter[str] = Counter()
    items = find_images(folder)
    images_of = Counter(file for item in items for file in item["files"] if isinstance(item["image"], StudyImage))
    for item in items:
        if isinstance(item["image"], StudyImage):
            # a file of several images names none of them by its path alone
            if max(images_of[file] for file in item["files"]) > 1 or not all(map(os.path.exists, item["files"])):
                continue
            path = alone(item["files"], scratch)
            for loader in (LoadStudy(), LoadRadiograph(), LoadRadiograph(apply_voi=True, modalities=["CR", "DX"])):
                found = outcome(loader, item["image"])
                assert_same(found, outcome(loader, path))
                counts["refused" if found[0] else "read"] += 1
        elif not item["unreadable"].startswith(OF_NEIGHBOURS) and os.path.isfile(item["path"]):
            if Path(item["path"]).name.startswith("DICOMDIR"):
                continue
            for loader in (LoadStudy(), LoadRadiograph()):
                assert outcome(loader, item["path"]) == (item["unreadable"], None), item["path"]
                counts["refused"] += 1
    return counts


def test_pydicoms_files(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for path in PYDICOM.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    counts = both_ends(folder, tmp_path / "alone")
    assert counts["read"] > 40 and counts["refused"] > 60


def test_the_sample(tmp_path: Path) -> None:
    counts = both_ends(CHEST / "sample_data" / "images", tmp_path / "alone")
    assert counts == {"read": 630}


@pytest.mark.skipif(not PAIR.is_dir(), reason="development data")
def test_a_real_pair_of_series(tmp_path: Path) -> None:
    assert both_ends(PAIR, tmp_path / "alone")["read"] == 2


@pytest.mark.skipif(not CASES.is_file(), reason="development data")
def test_cases_of_the_field(cases: Path, tmp_path: Path) -> None:
    counts = sum((both_ends(folder, tmp_path / "alone") for folder in sorted(cases.iterdir())), Counter())
    assert counts["read"] > 40 and counts["refused"] > 20


def test_the_loader_of_a_run_says_the_same(tmp_path: Path) -> None:
    """Through the data set that inference uses, by path and as an item of the folder."""
    for name in ("reportsi.dcm", "SC_rgb_jpeg.dcm", "MR_truncated.dcm", "rtdose.dcm"):
        shutil.copy(PYDICOM / name, tmp_path)
    reasons = []
    for items in (find_images(tmp_path), [{"image": str(path)} for path in sorted(tmp_path.iterdir())]):
        data = FaultTolerantDataset(items, [InDict()])
        found = [data[index] for index in range(len(data))]
        assert all(isinstance(one, Rejection) for one in found)
        reasons.append([(Path(one.path).name, one.reason, one.set_aside) for one in found])
    assert sorted(reasons[0]) == sorted(reasons[1])


class InDict:
    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "image": LoadRadiograph()(data["image"])}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often each file is opened, by whatever way."""
    counts: Counter[str] = Counter()
    active = [True]

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if active[0] and event == "open" and isinstance(arguments[0], (str, os.PathLike)):
            counts[os.path.realpath(arguments[0])] += 1

    sys.addaudithook(audit)
    yield counts
    active[0] = False


def test_a_file_is_opened_three_times_at_most(tmp_path: Path, opened: Counter[str]) -> None:
    """The scan and the pixels, of every kind of file."""
    write_phases(tmp_path / "mr", 2)
    for name in ("CT_small.dcm", "JPEG2000.dcm", "examples_palette.dcm", "SC_rgb_jpeg.dcm", "ExplVR_BigEnd.dcm"):
        shutil.copy(PYDICOM / name, tmp_path / name)
    shutil.copy(next((CHEST / "sample_data" / "images").iterdir()), tmp_path / "chest.dcm")
    opened.clear()
    items = find_images(tmp_path)
    for item in items:
        LoadStudy()(item["image"])
    counts = {file: opened[os.path.realpath(file)] for item in items for file in item["files"]}
    assert len(counts) == 14
    assert max(counts.values()) <= 3, counts


def test_a_header_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not again for the pixels, whatever they need: lookup tables, palettes, colour, padding, windows."""
    names = ("CT_small.dcm", "examples_palette.dcm", "SC_rgb_jpeg.dcm", "ExplVR_BigEnd.dcm", "examples_ybr_color.dcm")
    for name in names:
        shutil.copy(PYDICOM / name, tmp_path / name)
    parsed = Counter()
    original = pydicom.dcmread

    def counting(*arguments: Any, **options: Any) -> pydicom.FileDataset:  # noqa: ANN401
        parsed["files"] += 1
        return original(*arguments, **options)

    monkeypatch.setattr(pydicom, "dcmread", counting)
    for item in find_images(tmp_path):
        LoadStudy()(item["image"])
        LoadStudy(apply_voi=True, fill_padding=True)(item["image"])
    assert parsed["files"] == len(names)
