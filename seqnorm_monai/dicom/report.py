"""The listing of a folder as a table for the screen and as JSON."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from seqnorm_monai.dicom.listing import Listing, Row
from seqnorm_monai.files import replacing

_COLUMNS = ("study", "series", "phase", "modality", "shape", "spacing (mm)", "axes", "files", "what", "problems")


def table(listing: Listing) -> str:
    """Studies, series and phases, then the files: how many of each status, and every one that was refused."""
    lines = _aligned([_COLUMNS, *(_cells(entry.row) for entry in listing.entries)]) if listing.entries else []
    lines += [_uid_line(rows[0]) for rows in _studies(entry.row for entry in listing.entries)]
    counts = Counter(record.status for record in listing.files)
    total = ", ".join(f"{counts[status]} {status.replace('_', ' ')}" for status in sorted(counts))
    lines.append(f"{len(listing.files)} files" + (f": {total}" if total else ""))
    aside = Counter(record.reason for record in listing.files if record.status == "set_aside")
    lines += [f"  set aside: {number} x {printable(reason)}" for reason, number in sorted(aside.items())]
    for record in listing.files:
        if record.status == "rejected":
            lines.append(f"  rejected: {printable(record.path)}: {printable(record.reason)}")
    return "\n".join(lines)


def write_json(listing: Listing, path: str | os.PathLike[str]) -> None:
    """``{"rows": [...], "files": [...]}``: the rows of the table, and path, status, reason, study, series of each file.

    Raises OSError.
    """
    content = {
        "rows": [entry.row.as_json() for entry in listing.entries],
        "files": [asdict(record) for record in listing.files],
    }
    with replacing(path) as stream:
        json.dump(content, stream, indent=1)
        stream.write("\n")


def printable(text: str) -> str:
    """Text that neither breaks a line nor moves a terminal's cursor, and that every stream can encode."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        str(row.study),
        str(row.series),
        f"{row.phase}/{row.phases}",
        row.modality or row.format,
        "x".join(str(size) for size in row.shape),
        " ".join(f"{value:.4g}" for value in row.spacing) or "-",
        row.orientation or "-",
        str(row.files),
        printable(" ".join(part for part in (row.name, row.label) if part)) or "-",
        printable("; ".join(row.problems)) or "-",
    )


def _aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(line[column]) for line in cells) for column in range(len(_COLUMNS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells]


def _studies(rows: Iterable[Row]) -> list[list[Row]]:
    studies: dict[int, list[Row]] = {}
    for row in rows:
        studies.setdefault(row.study, []).append(row)
    return list(studies.values())


def _uid_line(row: Row) -> str:
    return f"study {row.study}: " + (printable(row.study_instance_uid) or "NIfTI files")
