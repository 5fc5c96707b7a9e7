"""Tables, texts and programs among images are no rejections; what only has their name is one."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from seqnorm_monai.images.documents import document_kind, other_format

TEXT = "name,età\n1,2\n"


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("labels.csv", TEXT.encode(), "a table, no image"),
        ("LABELS.CSV", TEXT.encode("latin-1"), "a table, no image"),
        ("labels.tsv", TEXT.encode("utf-16"), "a table, no image"),
        ("list.json", b"{}", "data or settings, no image"),
        ("read me.txt", b"\xef\xbb\xbfhello", "a text, no image"),
        ("README", b"hello", "a text, no image"),
        ("README.md", b"# hello", "a text, no image"),
        ("run.sh", b"#!/bin/sh\n", "a program, no image"),
        ("paper.pdf", b"%PDF-1.7\n\xe2\xe3", "a text, no image"),
        ("Thumbs.db", b"\xd0\xcf\x11\xe0", "a file of the operating system, no image"),
        (".DS_Store", b"\0\0\0\x01Bud1", "a file of the operating system, no image"),
    ],
)
def test_documents(tmp_path: Path, name: str, content: bytes, kind: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert document_kind(tmp_path / name) == kind


def test_a_spreadsheet_is_a_table(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "labels.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
    assert document_kind(tmp_path / "labels.xlsx") == "a table, no image"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.csv", b"\0\1\2\3" * 50),
        ("slice.txt", bytes(128) + b"DICM" + bytes(50)),
        ("empty.txt", b""),
        ("image.dcm", b"to do\n"),
        ("image", b"to do\n"),
        ("paper.pdf", b"no pdf"),
        ("labels.xlsx", b"image,patient"),
        ("image.png", b"to do\n"),
    ],
)
def test_what_may_have_been_an_image_stays_a_rejection(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert document_kind(tmp_path / name) == ""


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"GIF89a", "a GIF file"),
        (b"BM\x36\x00", "a BMP file"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "a WebP file"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 file outside DICOM"),
        (b"NRRD0004\n", "an NRRD file under another name"),
        (b"\x93NUMPY\x01", "an array of numpy"),
        (b"\x89PNG\r\n", ""),
        (b"", ""),
    ],
)
def test_other_formats_are_named(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / "x").write_bytes(content)
    assert other_format(tmp_path / "x") == name
