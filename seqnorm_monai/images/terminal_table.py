"""The inventory of a folder as a table for the screen and as JSON."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from seqnorm_monai.atomic_files import replacing
from seqnorm_monai.images.inventory import Inventory
from seqnorm_monai.images.records import FileRecord, FileStatus
from seqnorm_monai.images.rows import SeriesRow

_COLUMNS = (
    *("series", "number", "phase", "modality", "size", "spacing (mm)", "orientation"),
    *("description", "protocol", "files", "image", "problems"),
)
# what the columns "description" and "protocol" show: texts that people write, and rules ask for
_TEXTS = ("SeriesDescription", "ProtocolName")
# the longest text of the standard's LO (PS3.5 table 6.2-1)
_MAX_TEXT = 64
# Columns whose cells stand at their right end.
_NUMBERS = ("series", "number", "files")
# files that are named for each reason; the JSON names all
_EXAMPLES = 3
_MEANINGS = {
    FileStatus.USED: "used, but for a part",
    FileStatus.SET_ASIDE: "set aside (in order, and no image to read)",
    FileStatus.REJECTED: "rejected",
}
_NONE = "-"
_NO_TEXTS = ("",) * len(_TEXTS)


def table(inventory: Inventory, *, texts: bool = False) -> str:
    """Studies with their series and phases, then the files: how many of each status, and why they are not used.

    `texts`: with SeriesDescription and ProtocolName, for who writes rules. A person wrote them, and may have written a
    name: they go to the screen, never to a file or a log.
    """
    shown = {entry.row.key: _texts(entry.attributes) for entry in inventory.entries} if texts else {}
    blocks = [_study(rows, shown) for rows in _studies(inventory.rows)]
    blocks.append([_total(inventory.files)])
    blocks += [block for status in _MEANINGS if (block := _reasons(inventory.files, status))]
    return "\n\n".join("\n".join(block) for block in blocks)


def write_json(inventory: Inventory, path: str | os.PathLike[str]) -> None:
    """``{"rows": [...], "files": [...]}``: the rows of the table, and path, status, reason, study, series of each file.

    Texts of the headers are not in it, whatever the table shows.

    Raises OSError.
    """
    content = {
        "rows": [row.as_json() for row in inventory.rows],
        "files": [asdict(record) for record in inventory.files],
    }
    with replacing(path) as stream:
        json.dump(content, stream, indent=1)
        stream.write("\n")


def printable(text: str) -> str:
    """Text that neither breaks a line nor moves a terminal's cursor, and that every stream can encode."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _texts(attributes: Mapping[str, object]) -> tuple[str, ...]:
    values = [attributes.get(keyword, "") for keyword in _TEXTS]
    texts = ["\\".join(map(str, value)) if isinstance(value, list) else str(value) for value in values]
    return tuple(text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]} ..." for text in texts)


def _study(rows: Sequence[SeriesRow], texts: Mapping[object, tuple[str, ...]]) -> list[str]:
    """A heading with the UID, and the rows below it, without the columns that say nothing."""
    first = rows[0]
    name = printable(first.study_instance_uid) or "without StudyInstanceUID"
    kinds = {"DICOM": name, "NIfTI": "NIfTI files", **dict.fromkeys(("MetaImage", "NRRD"), "MetaImage and NRRD files")}
    kind = kinds.get(first.format, "PNG, JPEG and TIFF files")
    heading = f"study {first.study}: {kind}"
    cells = [_cells(row, texts.get(row.key, _NO_TEXTS)) for row in rows]
    kept = [i for i, column in enumerate(zip(*cells)) if set(column) != {_NONE}]
    lines = [[row[i] for i in kept] for row in [_COLUMNS, *cells]]
    return [heading, *(f"  {line}" for line in _aligned(lines))]


def _cells(row: SeriesRow, texts: tuple[str, ...]) -> tuple[str, ...]:
    place = f"{row.series}" + (f".{row.stack}" if row.stacks > 1 else "")
    sizes = " x ".join(str(size) for size in row.shape)
    cells = (
        place,
        "" if row.series_number is None else str(row.series_number),
        f"{row.phase}/{row.phases}" if row.phases > 1 else "",
        row.modality or ("" if row.format == "DICOM" else row.format),
        sizes + {1: "", 3: " RGB", 4: " RGBA"}.get(row.channels, "") + (" frames" if row.kind == "frames" else ""),
        " x ".join(f"{value:.4g}" for value in row.spacing),
        " ".join(part for part in (row.orientation, row.plane) if part),
        *texts,
        str(row.files),
        ", ".join(part for part in (row.name, row.label) if part),
        ("refused: " if row.status == FileStatus.REJECTED else "") + "; ".join(row.problems),
    )
    return tuple(printable(cell).strip() or _NONE for cell in cells)


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    right = [title in _NUMBERS for title in lines[0]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return ["  ".join(map(_justified, line, widths, right)).rstrip() for line in lines]


def _justified(cell: str, width: int, right: bool) -> str:
    return cell.rjust(width) if right else cell.ljust(width)


def _studies(rows: Iterable[SeriesRow]) -> list[list[SeriesRow]]:
    studies: dict[int, list[SeriesRow]] = {}
    for row in rows:
        studies.setdefault(row.study, []).append(row)
    return list(studies.values())


def _total(files: Sequence[FileRecord]) -> str:
    counts = Counter(record.status for record in files)
    known = [status for status in _MEANINGS if status in counts]
    total = ", ".join(f"{counts[status]} {status.value.replace('_', ' ')}" for status in known)
    return _count(len(files), "file") + (f": {total}" if total else "")


def _reasons(files: Iterable[FileRecord], status: FileStatus) -> list[str]:
    """Every reason with the number of its files, the most frequent first, and the names of a few of them."""
    groups: dict[str, list[str]] = {}
    for record in files:
        if record.status == status and record.reason:
            groups.setdefault(record.reason, []).append(record.path)
    if not groups:
        return []
    lines = [_MEANINGS[status] + ":"]
    for reason, paths in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])):
        more = len(paths) - _EXAMPLES
        names = ", ".join(printable(path) for path in paths[:_EXAMPLES]) + (f" and {more} more" if more > 0 else "")
        lines += [f"  {_count(len(paths), 'file')}: {printable(reason)}", f"      {names}"]
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
