"""A folder of everything that goes wrong: each file refused by name, the good ones read, none lost."""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from seqnorm_monai.images.inventory import Inventory, check_pixels, take_inventory
from seqnorm_monai.images.sources import open_sources
from tests.images.test_sources import medium
from tests.makers.bundles import environment
from tests.makers.studies import SECRETS, mr_slice, save, true_affine, write_phases

LITTLE_ENDIAN = b"1.2.840.10008.1.2.1\0"


def real(name: str) -> bytes:
    return Path(get_testdata_file(name, download=False)).read_bytes()


def own_series(number: int, **attributes: object) -> bytes:
    """A file of a series that no other file belongs to."""
    pixels = np.full((6, 5), number, np.uint16)
    uid = f"1.2.3.99.{number}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.dcm"
        return save(mr_slice(pixels, 0, f"{uid}.1", SeriesInstanceUID=uid, **attributes), path).read_bytes()


def element(data: bytes, tag: tuple[int, int], value: bytes) -> bytes:
    """Other bytes, as many, as the value of an explicit little endian element with a short length."""
    at = data.index(struct.pack("<2H", *tag)) + 8
    return data[:at] + value + data[at + len(value) :]


def nifti(dim: list[int]) -> bytes:
    data = bytearray(nibabel.Nifti1Image(np.zeros((5, 7, 3), np.int16), np.eye(4)).to_bytes())
    struct.pack_into("<8h", data, 40, *dim)
    return bytes(data)


def files() -> dict[str, tuple[bytes, str, str]]:
    """Name -> content, and the status and reason that are expected."""
    ct, jpeg = real("CT_small.dcm"), real("JPEG-lossy.dcm")
    syntax_at = ct.index(b"\x02\0\x10\0UI")
    no_meta = own_series(2)
    no_meta = no_meta[132 + 12 + struct.unpack_from("<L", no_meta, 140)[0] :]
    rows, columns = (0x28, 0x10), (0x28, 0x11)
    huge = element(element(own_series(3), rows, b"\xff\xff"), columns, b"\xff\xff")
    return {
        "empty.dcm": (b"", "rejected", "an empty file"),
        "page.dcm": (b"<!DOCTYPE html><html>404</html>", "rejected", "HTML"),
        "picture.dcm": (b"\x89PNG\r\n\x1a\n" + bytes(99), "rejected", "a PNG file whose header is damaged"),
        "zeros.dcm": (bytes(5000), "rejected", "not a DICOM file"),
        "notes": (b"to do\n", "rejected", "not a DICOM file: text"),
        "thesis.pdf": (b"%PDF-1.4" + bytes(99), "set_aside", "a text, no image"),
        "cut in the preamble.dcm": (ct[:100], "rejected", "not a DICOM file"),
        "cut in the header.dcm": (own_series(4)[:600], "rejected", "."),
        "cut in the pixels.dcm": (own_series(5)[:-20], "rejected", "cut off"),
        "renamed.txt": (own_series(6), "used", ""),
        "no meta": (no_meta, "used", ""),
        "no syntax.dcm": (jpeg.replace(b"\x02\0\x10\0UI", b"\x02\0\x99\0UI"), "rejected", "."),
        "wrong syntax.dcm": (jpeg.replace(jpeg[syntax_at + 8 :][:23], LITTLE_ENDIAN + bytes(3)), "rejected", "."),
        "huge.dcm": (huge, "rejected", "65535 x 65535|cut off"),
        "many frames.dcm": (own_series(7, NumberOfFrames=99_999), "rejected", "99999|cut off"),
        "frames.dcm": (own_series(8, NumberOfFrames="2147483647"), "rejected", "NumberOfFrames"),
        "no frames.dcm": (own_series(9, NumberOfFrames=0), "used", ""),
        "fewer frames.dcm": (own_series(14, NumberOfFrames=-1), "rejected", "NumberOfFrames is -1"),
        "huge.nii": (nifti([3, 32767, 32767, 32767, 1, 1, 1, 1]), "rejected", "cut off"),
        "less.nii": (nifti([3, 5, 7, 2, 1, 1, 1, 1]), "used", ""),
        "negative.nii": (nifti([3, 5, -7, 3, 1, 1, 1, 1]), "rejected", "an axis without voxels"),
        "page.nii.gz": (b"<html>", "rejected", "not a NIfTI file"),
        "copy 1": (own_series(10), "used", ""),
        "copy 2": (own_series(10), "set_aside", "a copy of copy 1"),
        "twin 1": (own_series(11), "rejected", "the same SOPInstanceUID as twin 2"),
        "twin 2": (own_series(11, SliceThickness=7), "rejected", "the same SOPInstanceUID as twin 1"),
        "report.dcm": (real("test-SR.dcm"), "set_aside", "a structured report"),
    }


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    top = tmp_path / "folder"
    write_phases(top / "good")
    for name, (content, _, _) in files().items():
        (top / name).write_bytes(content)
    (top / "good" / "loop").symlink_to(top)
    (top / "broken").symlink_to("absent")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "one.dcm").write_bytes(own_series(13))
    (top / "outside").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(top / "pipe")
    # a socket's path may have 107 bytes
    where = os.open(top, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as endpoint:
        endpoint.bind(f"/proc/self/fd/{where}/socket")
    os.close(where)
    with zipfile.ZipFile(top / "evil.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("../out.dcm", "/abs.dcm", "C:/drive.dcm", "in.zip", "slice.dcm"):
            archive.writestr(name, own_series(12) if name != "in.zip" else b"PK\x03\x04" + bytes(99))
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("bomb", b"")
        # 4 GiB, says the directory
        archive.filelist[-1].file_size = 0xFFFFFFF0
    medium(top / "cd", [["..", "notes"], ["ABSENT"]])
    yield top
    assert not (tmp_path / "out.dcm").exists()


ARCHIVED = {
    "evil.zip": ("set_aside", "an archive"),
    "evil.zip/../out.dcm": ("rejected", "leads out of the archive"),
    "evil.zip//abs.dcm": ("rejected", "an absolute name"),
    "evil.zip/C:/drive.dcm": ("rejected", "an absolute name"),
    "evil.zip/in.zip": ("rejected", "an archive in the archive"),
    "evil.zip/slice.dcm": ("used", ""),
    "evil.zip/link": ("rejected", "a symbolic link"),
    "evil.zip/bomb": ("rejected", "unpacks to more than|too large|damaged"),
}
OTHERS = {
    "broken": ("rejected", "broken symbolic link"),
    "pipe": ("rejected", "not a regular file"),
    "socket": ("rejected", "not a regular file"),
    "cd/DICOMDIR": ("set_aside", "the directory of a medium"),
}


def checked(listing: Inventory, expected: dict[str, tuple[str, str]]) -> None:
    names = [record.path for record in listing.files]
    assert sorted(names) == sorted(expected)
    for record in listing.files:
        status, reason = expected[record.path]
        assert (record.path, record.status) == (record.path, status), record
        assert re.search(reason, record.reason), record
        assert bool(record.reason) == (status != "used"), record
        assert not any(secret in record.reason for secret in (*SECRETS, "/tmp"))


def test_every_file_has_its_reason(hostile: Path) -> None:
    expected = {name: (status, reason) for name, (_, status, reason) in files().items()}
    expected |= {f"good/I{index}": ("used", "") for index in range(4)} | ARCHIVED | OTHERS
    expected["outside/one.dcm"] = ("used", "")
    tracemalloc.start()
    with open_sources(hostile) as sources:
        listing = take_inventory(sources)
        assert len(listing.files) == len(sources.files) + len(sources.refused)
        check_pixels(listing)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 30_000_000
        checked(listing, expected)
        good = next(entry for entry in listing.entries if entry.row.files == 4)
        assert good.row.shape == (5, 6, 4) and good.row.status == "used"
        np.testing.assert_allclose(good.read().affine, true_affine())
    assert list((hostile.parent / "temporary").iterdir()) == []


def test_directory_of_a_medium_that_leads_out(hostile: Path) -> None:
    with open_sources(hostile / "cd" / "DICOMDIR") as sources:
        checked(
            take_inventory(sources),
            {
                "DICOMDIR": ("set_aside", "the directory of a medium"),
                "../notes": ("rejected", "leads out of the folder"),
                "ABSENT": ("rejected", "not there"),
            },
        )


def test_good_files_are_the_same_without_the_others(hostile: Path) -> None:
    with open_sources(hostile / "good") as sources:
        alone = [entry.read() for entry in take_inventory(sources).entries if entry.row.files == 4]
    with open_sources(hostile) as sources:
        among = [entry.read() for entry in take_inventory(sources).entries if entry.row.files == 4]
    assert len(alone) == len(among) == 1
    np.testing.assert_array_equal(alone[0].pixels, among[0].pixels)


def test_listing_fits_into_little_memory(hostile: Path) -> None:
    """The whole command in a process that may take 1 GiB more than its libraries have."""
    script = (
        "import resource, sys; from pathlib import Path; from seqnorm_monai.images.__main__ import main;"
        "used = 1024 * int(Path('/proc/self/status').read_text().split('VmSize:')[1].split()[0]);"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**30,) * 2); sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(hostile), "--check"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "MemoryError" not in done.stdout and "5 x 6 x 4" in done.stdout


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_permissions(tmp_path: Path) -> None:
    write_phases(tmp_path / "good")
    (tmp_path / "closed").write_bytes(b"x")
    (tmp_path / "closed").chmod(0)
    (tmp_path / "shut").mkdir(0)
    with open_sources(tmp_path) as sources:
        reasons = {
            record.path: record.reason for record in take_inventory(sources).files if record.status == "rejected"
        }
    assert reasons == {"closed": "no permission to read it", "shut": "folder cannot be listed (PermissionError)"}


def test_pixels_that_fail_late(tmp_path: Path) -> None:
    """A slice that turns out to be undecodable: it is named, and its neighbours are refused because of it."""
    write_phases(tmp_path / "in", 2)
    bad = tmp_path / "in" / "I5"
    dataset = dcmread(bad)
    dataset.compress("1.2.840.10008.1.2.5", encoding_plugin="pydicom", generate_instance_uid=False)
    # behind the offset table and the head of the item, in the header of RLE: where the second segment starts
    data = bytearray(dataset.PixelData)
    data[28:32] = struct.pack("<L", 4000)
    dataset.PixelData = bytes(data)
    dataset.save_as(bad)
    with open_sources(tmp_path / "in") as sources:
        listing = take_inventory(sources)
        assert [record.status for record in listing.files] == ["used"] * 8
        check_pixels(listing)
    rows = {row.status: row for row in listing.rows}
    assert rows["used"].problems == () and len(rows["rejected"].problems) == 1
    reasons = [record.reason for record in listing.files if record.status == "rejected"]
    assert len(reasons) == 4
    assert sum(reason.startswith("its series is refused: I5: ") for reason in reasons) == 3
    (own,) = (record.reason for record in listing.files if record.path == "I5")
    assert own == rows["rejected"].problems[0]
