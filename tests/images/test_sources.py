"""Every file of a folder, an archive or a medium's directory: once, by name, wherever it leads."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import config
from pydicom.data import get_testdata_file
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from seqnorm_monai.images.archives import ArchiveLimits
from seqnorm_monai.images.dicom.dicomdir import is_directory_file
from seqnorm_monai.images.dicom.errors import UnreadableFileError
from seqnorm_monai.images.sources import Sources, open_sources

Make = Callable[..., Path]
ARCHIVE_ROW = "an archive; its members have rows of their own"
DIRECTORY_ROW = "the directory of a medium"


def names(sources: Sources) -> list[str]:
    return [file.name for file in sources.files]


def refusals(sources: Sources) -> dict[str, str]:
    """Name -> reason; every name once among all rows."""
    all_names = names(sources) + [record.path for record in sources.refused]
    assert len(all_names) == len(set(all_names))
    return {record.path: record.reason for record in sources.refused}


def zip_of(path: Path, members: dict[str, bytes], **arguments: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **arguments) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_folder_tree_sorted_and_relative(tmp_path: Path) -> None:
    for name in ("b/2", "b/c/3", "a", ".hidden"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "b" / "c" / "loop").symlink_to(tmp_path)
    (tmp_path / "broken").symlink_to("absent")
    os.mkfifo(tmp_path / "pipe")
    with open_sources(tmp_path) as sources:
        assert names(sources) == [".hidden", "a", "b/2", "b/c/3"]
        assert [file.path for file in sources.files] == [tmp_path / name for name in names(sources)]
        assert refusals(sources) == {"broken": "broken symbolic link", "pipe": "not a regular file"}
        assert {record.status for record in sources.refused} == {"rejected"}


def test_what_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shut").mkdir()
    for name in ("open", "closed", "shut/file"):
        (tmp_path / name).write_bytes(b"x")
    scandir, access = os.scandir, os.access

    def forbidding(path: str) -> object:
        if path.endswith("shut"):
            raise PermissionError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidding)
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("closed") and access(path, mode))
    with open_sources(tmp_path) as sources:
        assert names(sources) == ["open"]
        assert refusals(sources) == {
            "closed": "no permission to read it",
            "shut": "folder cannot be listed (PermissionError)",
        }
    with pytest.raises(UnreadableFileError, match="no permission"):
        open_sources(tmp_path / "closed")
    with pytest.raises(UnreadableFileError, match="cannot be listed"):
        open_sources(tmp_path / "shut")


def test_roots(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="no such file or folder"):
        open_sources(tmp_path / "absent")
    (tmp_path / "broken").symlink_to("absent")
    with pytest.raises(UnreadableFileError, match="broken symbolic link"):
        open_sources(tmp_path / "broken")
    (tmp_path / "damaged.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(UnreadableFileError, match="a damaged ZIP archive"):
        open_sources(tmp_path / "damaged.zip")
    with open_sources(tmp_path) as sources:
        assert refusals(sources)["damaged.zip"] == "a damaged ZIP archive (BadZipFile)"
    (tmp_path / "single").write_bytes(b"x")
    with open_sources(tmp_path / "single") as sources:
        assert (names(sources), sources.refused) == (["single"], [])
    (tmp_path / "empty").mkdir()
    with open_sources(tmp_path / "empty") as sources:
        assert (sources.files, sources.refused) == ([], [])


def test_archive_is_unpacked_and_removed(tmp_path: Path) -> None:
    zip_of(tmp_path / "study.zip", {"b/2": b"two", "a": b"one", "b/": b"", "DICOMDIR": b"no directory"})
    with open_sources(tmp_path / "study.zip") as sources:
        assert names(sources) == ["study.zip/DICOMDIR", "study.zip/a", "study.zip/b/2"]
        assert [file.path.read_bytes() for file in sources.files] == [b"no directory", b"one", b"two"]
        assert refusals(sources) == {"study.zip": ARCHIVE_ROW}
        unpacked = [file.path for file in sources.files]
        assert not any(path.is_relative_to(tmp_path) for path in unpacked)
    assert not any(path.exists() for path in unpacked)


def test_archives_within_a_folder(tmp_path: Path) -> None:
    inner = zip_of(tmp_path / "inner", {"deep": b"x"}).read_bytes()
    (tmp_path / "sub").mkdir()
    zip_of(tmp_path / "sub" / "one.zip", {"a": b"1", "again.zip": inner, "renamed": inner, "text.docx": inner})
    zip_of(tmp_path / "two.ZIP", {"a": b"2"})
    zip_of(tmp_path / "arrays.npz", {"a": b"3"})
    zip_of(tmp_path / "1.2.840.7", {"a": b"4"})
    with open_sources(tmp_path) as sources:
        content = {file.name: file.path.read_bytes() for file in sources.files}
        refused = refusals(sources)
    assert content.pop("sub/one.zip/text.docx") == inner and content.pop("arrays.npz")
    assert content == {"sub/one.zip/a": b"1", "two.ZIP/a": b"2", "1.2.840.7/a": b"4", "inner/deep": b"x"}
    assert refused == {
        **dict.fromkeys(("sub/one.zip", "two.ZIP", "1.2.840.7", "inner"), ARCHIVE_ROW),
        "sub/one.zip/again.zip": "an archive in the archive",
        "sub/one.zip/renamed": "an archive in the archive",
    }


HOSTILE_NAMES = {
    "../outside": "a name that leads out of the archive (..)",
    "a/../../outside": "a name that leads out of the archive (..)",
    "..\\outside2": "a name that leads out of the archive (..)",
    "/outside": "an absolute name in the archive",
    "\\outside2": "an absolute name in the archive",
    "C:\\outside": "an absolute name in the archive",
    "x" * 300: "cannot be unpacked (OSError)",
    "good/below a file": "cannot be unpacked (FileExistsError)",
}


def test_hostile_names_in_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    path = zip_of(tmp_path / "x.zip", {"good": b"1", **dict.fromkeys(HOSTILE_NAMES, b"hostile"), "good2": b"2"})
    with open_sources(path) as sources:
        assert names(sources) == ["x.zip/good", "x.zip/good2"]
        expected = {f"x.zip/{name}".replace("\\", "/"): reason for name, reason in HOSTILE_NAMES.items()}
        assert refusals(sources) == {"x.zip": ARCHIVE_ROW, **expected}
        written = [file for file in tmp_path.rglob("*") if file.is_file() and file != path]
        assert sorted(file.name for file in written) == ["good", "good2"]
    assert list((tmp_path / "temporary").iterdir()) == []


def test_links_and_devices_in_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, kind in (("link", stat.S_IFLNK), ("pipe", stat.S_IFIFO), ("file", stat.S_IFREG)):
            info = zipfile.ZipInfo(name)
            info.external_attr = (kind | 0o644) << 16
            archive.writestr(info, b"/etc/passwd")
    with open_sources(tmp_path / "x.zip") as sources:
        assert names(sources) == ["x.zip/file"]
        assert refusals(sources)["x.zip/link"] == "a symbolic link in the archive"
        assert refusals(sources)["x.zip/pipe"] == "not a regular file of the archive"


def test_encrypted_damaged_and_double_members(tmp_path: Path) -> None:
    random = np.random.default_rng(3).bytes(1000)
    path = zip_of(tmp_path / "x.zip", {"encrypted": b"1", "damaged": random, "method": b"2", "good": b"3"})
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("good", b"4")
        archive.writestr("./good", b"5")
    data = bytearray(path.read_bytes())
    for name, offset, value in (("encrypted", 8, 1), ("method", 10, 97)):
        # the entry of the directory, and the member's own header
        central = data.rindex(name.encode()) - 46
        struct.pack_into("<H", data, central + offset, value)
        local = data.index(name.encode()) - 30
        struct.pack_into("<H", data, local + offset - 2, value)
    data[data.index(random[:20]) + 500] ^= 255
    path.write_bytes(bytes(data))
    with open_sources(path) as sources:
        assert names(sources) == ["x.zip/good"]
        assert sources.files[0].path.read_bytes() == b"3"
        reasons = [(record.path, record.reason) for record in sources.refused]
    assert reasons == [
        ("x.zip", ARCHIVE_ROW),
        ("x.zip/damaged", "damaged in the archive (BadZipFile)"),
        ("x.zip/encrypted", "encrypted in the archive"),
        ("x.zip/good", "a second member of the archive with this name"),
        ("x.zip/good", "a second member of the archive with this name"),
        ("x.zip/method", "packed by a method that cannot be unpacked"),
    ]


@pytest.mark.parametrize(
    ("limits", "used", "reason"),
    [
        (ArchiveLimits(members=2), ["a", "b"], "too many members in the archive"),
        (ArchiveLimits(member_bytes=99_999), ["a"], "too large for an archive (100000 bytes unpacked)"),
        (ArchiveLimits(total_bytes=200_003), ["a", "b", "c"], "too large for an archive (100000 bytes unpacked)"),
        (ArchiveLimits(free_bytes=150_000), ["a", "b"], "the archive unpacks to more than 100 times its size"),
    ],
)
def test_limits_of_an_archive(tmp_path: Path, limits: ArchiveLimits, used: list[str], reason: str) -> None:
    path = zip_of(tmp_path / "x.zip", {"a": b"123", **dict.fromkeys("bcd", bytes(100_000))})
    with open_sources(path, limits=limits) as sources:
        assert names(sources) == [f"x.zip/{name}" for name in used]
        refused = refusals(sources)
    assert refused == {"x.zip": ARCHIVE_ROW, **{f"x.zip/{name}": reason for name in "abcd" if name not in used}}


def test_a_bomb_with_the_usual_limits_takes_no_disk(tmp_path: Path) -> None:
    """Sizes in the directory that lie: 40 members of 8 GiB each in a file of some kB."""
    path = zip_of(tmp_path / "x.zip", {f"{i:02}": bytes(1000) for i in range(40)})
    data = bytearray(path.read_bytes())
    position = data.index(b"PK\1\2")
    while position >= 0:
        struct.pack_into("<L", data, position + 24, 0xF0000000)
        position = data.find(b"PK\1\2", position + 1)
    path.write_bytes(bytes(data))
    with open_sources(path) as sources:
        assert sources.files == []
        assert len(refusals(sources)) == 41


def test_a_directory_too_large_for_memory(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "x.zip", {f"{i:04}": b"" for i in range(500)})
    with pytest.raises(UnreadableFileError, match="too many members"):
        open_sources(path, limits=ArchiveLimits(directory_bytes=10_000))


def medium(folder: Path, file_ids: list[str | list[str]]) -> Path:
    """A DICOMDIR of one patient that names these files."""
    patient = Dataset()
    patient.DirectoryRecordType = "PATIENT"
    patient.PatientName = "Secret^Name"
    records = [patient]
    for file_id in file_ids:
        record = Dataset()
        record.DirectoryRecordType = "IMAGE"
        # not checked: the tests need ids that the standard forbids
        record.add(DataElement(0x00041500, "CS", file_id, validation_mode=config.IGNORE))
        records.append(record)
    dataset = Dataset()
    dataset.FileSetID = "X"
    dataset.DirectoryRecordSequence = records
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    folder.mkdir(exist_ok=True)
    dcmwrite(folder / "DICOMDIR", dataset, enforce_file_format=True)
    return folder / "DICOMDIR"


def test_directory_of_a_medium(tmp_path: Path) -> None:
    file_ids: list[str | list[str]] = [["IMG", "I1"], ["IMG", "I2"], ["IMG", "I1"], ["IMG", "I3"], ["..", "X"]]
    directory = medium(tmp_path / "cd", [*file_ids, ["IMG", "OUT"], ["LINK", "X"], ["/etc", "passwd"], "IMG"])
    (tmp_path / "X").write_bytes(b"outside")
    (tmp_path / "cd" / "img").mkdir()
    for name in ("I1", "i2", "unnamed"):
        (tmp_path / "cd" / "img" / name).write_bytes(name.encode())
    (tmp_path / "cd" / "img" / "OUT").symlink_to(tmp_path / "X")
    (tmp_path / "cd" / "LINK").symlink_to(tmp_path)
    with open_sources(directory) as sources:
        assert {file.name: file.path.read_bytes() for file in sources.files} == {"IMG/I1": b"I1", "IMG/I2": b"i2"}
        assert refusals(sources) == {
            "DICOMDIR": DIRECTORY_ROW,
            "IMG/I3": "named by the directory and not there",
            "../X": "leads out of the folder of the directory",
            "IMG/OUT": "leads out of the folder of the directory",
            "LINK/X": "leads out of the folder of the directory",
            "/etc/passwd": "leads out of the folder of the directory",
            "IMG": "not a regular file",
        }
    with open_sources(tmp_path / "cd") as sources:
        assert {"img/unnamed", "img/i2"} <= set(names(sources))
        assert refusals(sources)["DICOMDIR"] == DIRECTORY_ROW
        assert [record.status for record in sources.refused] == ["set_aside"]


def test_real_directory() -> None:
    path = get_testdata_file("DICOMDIR", download=False)
    with open_sources(path) as sources:
        assert len(sources.files) == 31
        assert all(file.path.is_file() for file in sources.files)
        assert refusals(sources) == {"DICOMDIR": DIRECTORY_ROW}


def test_damaged_directories(tmp_path: Path) -> None:
    directory = medium(tmp_path / "cd", [["IMG", "I1"]])
    data = directory.read_bytes()
    start = data.index(b"\4\0\x20\x12SQ")
    for length in range(start, len(data) - 1, 7):
        directory.write_bytes(data[:length])
        assert is_directory_file(directory)
        try:
            with open_sources(directory) as sources:
                assert refusals(sources)["DICOMDIR"] == DIRECTORY_ROW
        except UnreadableFileError as error:
            assert error.reason == "a damaged directory of a medium"
            assert "Secret" not in str(error)
