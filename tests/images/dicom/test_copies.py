"""Many files with one SOPInstanceUID: what is kept of them, and that the work grows with their number only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seqnorm_monai.images.dicom import copies, open, scan
from seqnorm_monai.images.dicom.scan import scan_files
from seqnorm_monai.images.sources import SourceFile
from tests.makers.dicom_files import ramp

Make = Callable[..., Path]
# as long as "1.2.3.11", the SOPInstanceUID of `make_dicom`
UID = b"1.2.3.11"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[Path]:
    """How often each file was opened, from now on."""
    counts: Counter[Path] = Counter()
    original = Path.open

    def counting(self: Path, *arguments: object, **options: object) -> object:
        counts[self] += 1
        return original(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", counting)
    return counts


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    counts: Counter[str] = Counter()
    original = copies.load_planes

    def counting(planes: tuple[scan.Instance, ...]) -> np.ndarray:
        counts[planes[0].name] += 1
        return original(planes)

    monkeypatch.setattr(copies, "load_planes", counting)
    return counts


def different_files(folder: Path, template: bytes, count: int, *, uids: bool) -> list[SourceFile]:
    """Files that differ in their last pixel, and in their SOPInstanceUID with `uids`."""
    folder.mkdir()
    assert template.count(UID) > 0
    sources = []
    for number in range(count):
        data = template[:-2] + number.to_bytes(2, "little")
        path = folder / f"{number:05}"
        path.write_bytes(data.replace(UID, f"1.{number:06}".encode()) if uids else data)
        sources.append(SourceFile(path.name, path))
    return sources


def test_each_file_is_opened_once(make_dicom: Make, opened: Counter[Path]) -> None:
    path = make_dicom(ramp(12))
    opened.clear()
    scan_files([SourceFile("a", path)])
    assert opened == {path: 1}


def test_what_is_parsed_once(make_dicom: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = open.pydicom.dcmread
    monkeypatch.setattr(open.pydicom, "dcmread", lambda *a, **k: calls.append(a) or original(*a, **k))
    path = make_dicom(ramp(12))
    assert scan_files([SourceFile("a", path)]).series
    assert len(calls) == 1


@pytest.mark.parametrize("kind", ["all the same", "all different", "one different", "one damaged", "all damaged"])
def test_of_many_files_each_is_read_and_decoded_once(
    kind: str, make_dicom: Make, tmp_path: Path, opened: Counter[Path], decoded: Counter[str]
) -> None:
    sources = different_files(tmp_path / "in", make_dicom(ramp(12)).read_bytes(), 40, uids=False)
    contents = [source.path.read_bytes() for source in sources]
    for number, source in enumerate(sources):
        if kind in ("all the same", "one different", "one damaged"):
            source.path.write_bytes(contents[1 if kind == "one different" and number == 7 else 0])
    for number, source in enumerate(sources):
        if kind == "all damaged" or (kind == "one damaged" and number == 0):
            # compressed by a method that the pixels do not have: found when they are decoded
            syntax = b"1.2.840.10008.1.2.1"
            data = source.path.read_bytes()
            source.path.write_bytes(data.replace(syntax + b"\0", b"1.2.840.10008.1.2.5\0"))
    opened.clear()
    found = scan_files(sources)
    distinct = {"all the same": 1, "one different": 2, "one damaged": 2}.get(kind, 40)
    assert sum(decoded.values()) == (distinct if distinct > 1 else 0)
    assert max(decoded.values(), default=0) <= 1
    # the scan, the digest of its bytes, the pixels
    assert max(opened.values()) <= 3
    statuses = Counter(record.status for record in found.records.values())
    kept = [instance.name for instances in found.series.values() for instance in instances]
    expected = {
        "all the same": ({"set_aside": 39}, ["00000"]),
        "all different": ({"rejected": 40}, []),
        "one different": ({"set_aside": 38, "rejected": 2}, []),
        "one damaged": ({"set_aside": 38, "rejected": 1}, ["00001"]),
        "all damaged": ({"rejected": 40}, []),
    }
    assert (dict(statuses), kept) == expected[kind]
    assert bool(found.incomplete) == (not kept)


def test_reasons_name_another_file(make_dicom: Make, tmp_path: Path) -> None:
    records = scan_files(different_files(tmp_path / "in", make_dicom(ramp(12)).read_bytes(), 3, uids=False)).records
    twins = ["00001", "00000", "00000"]
    assert [record.reason for record in records.values()] == [
        f"the same SOPInstanceUID as {twin}, with other content (keep the right one)" for twin in twins
    ]


@pytest.mark.slow
def test_thousands_of_files_with_one_uid(
    make_dicom: Make, tmp_path: Path, opened: Counter[Path], decoded: Counter[str]
) -> None:
    sources = different_files(tmp_path / "in", make_dicom(ramp(12)).read_bytes(), 5000, uids=False)
    opened.clear()
    found = scan_files(sources)
    assert len(found.records) == 5000 and not found.series
    assert len(decoded) == sum(decoded.values()) == 5000
    assert max(opened.values()) <= 3


@pytest.mark.slow
def test_twenty_thousand_headers(
    make_dicom: Make, tmp_path: Path, opened: Counter[Path], decoded: Counter[str]
) -> None:
    sources = different_files(tmp_path / "in", make_dicom(ramp(12)).read_bytes(), 20_000, uids=True)
    opened.clear()
    found = scan_files(sources, num_workers=0)
    assert sum(map(len, found.series.values())) == 20_000 and not found.records
    assert sum(opened.values()) == 20_000
    assert not decoded
