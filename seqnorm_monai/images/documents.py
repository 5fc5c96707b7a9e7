"""What else lies among images: tables, texts and programs, which nobody took for one, and formats that are not read."""

from __future__ import annotations

import os

from seqnorm_monai.images.machine_errors import raise_machine_error

_TABLE, _TEXT = "a table, no image", "a text, no image"
_DATA, _PROGRAM = "data or settings, no image", "a program, no image"
_SYSTEM = "a file of the operating system, no image"
# files of text by the end of their name, and what they are
_TEXTS = {
    **dict.fromkeys((".csv", ".tsv"), _TABLE),
    **dict.fromkeys((".txt", ".md", ".rst", ".html", ".htm", ".log", ".rtf", ".license"), _TEXT),
    **dict.fromkeys((".json", ".jsonl", ".yaml", ".yml", ".xml", ".ini", ".toml", ".cfg", ".conf"), _DATA),
    **dict.fromkeys((".py", ".sh", ".ipynb", ".m", ".r", ".bat", ".ps1"), _PROGRAM),
}
# other files by the end of their name: how they begin, and what they are
_BINARIES = {
    **dict.fromkeys((".xlsx", ".xlsm", ".ods"), (b"PK\x03\x04", _TABLE)),
    **dict.fromkeys((".docx", ".odt", ".pptx"), (b"PK\x03\x04", _TEXT)),
    **dict.fromkeys((".xls", ".doc"), (b"\xd0\xcf\x11\xe0", _TEXT)),
    ".pdf": (b"%PDF", _TEXT),
}
_NAMES = {
    **dict.fromkeys(("thumbs.db", "desktop.ini", ".ds_store"), _SYSTEM),
    **dict.fromkeys(("license", "readme", "changelog", "checksums"), _TEXT),
}
# how files of other formats begin, at which byte
_FORMATS = (
    (0, b"GIF8", "a GIF file"),
    (0, b"BM", "a BMP file"),
    (8, b"WEBP", "a WebP file"),
    (4, b"jP  \r\n", "a JPEG 2000 file outside DICOM"),
    (4, b"ftyp", "a HEIF, AVIF or MP4 file"),
    (0, b"NRRD", "an NRRD file under another name"),
    (0, b"ObjectType", "a MetaImage file under another name"),
    (0, b"\x93NUMPY", "an array of numpy"),
    (0, b"\x89HDF", "an HDF5 file"),
)
# as much of a file as is looked at
_START = 4096


def document_kind(path: str | os.PathLike[str]) -> str:
    """What a file is by its name, if its content agrees; "" for any other, as for DICOM bytes under a text's name.

    To be asked of files that are no image. An empty file is none of these: it may have been one that was not written.
    """
    name = os.path.basename(os.fspath(path)).lower()
    if _NAMES.get(name) == _SYSTEM:
        return _SYSTEM
    stem, suffix = os.path.splitext(name)
    text = _TEXTS.get(suffix) or _NAMES.get(stem if not suffix else name, "")
    start, binary = _start_of(path) if text or suffix in _BINARIES else b"", _BINARIES.get(suffix)
    if binary is not None:
        return binary[1] if start.startswith(binary[0]) else ""
    return text if text and start and _is_text(start) else ""


def other_format(path: str | os.PathLike[str]) -> str:
    """The name of another format of images, by how the file begins; "" if it is none of those known here."""
    start = _start_of(path)
    return next((name for place, mark, name in _FORMATS if start[place:].startswith(mark)), "")


def _start_of(path: str | os.PathLike[str]) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(_START)
    except OSError as error:
        raise_machine_error(error)
        # a byte that no text has: it stays what its reader said of it
        return b"\0"


def _is_text(start: bytes) -> bool:
    """Whether these bytes are characters of UTF-8 or of one byte each, or of UTF-16 with its mark."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    # control characters but tab, line feed, form feed, carriage return and escape
    return not any(byte < 32 and byte not in (9, 10, 12, 13, 27) for byte in start)
