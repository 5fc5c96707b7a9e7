"""What an inventory holds: its images, not yet decoded, and the account of its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from seqnorm_monai.images.errors import ImageReadError
from seqnorm_monai.images.image_array import MODALITY_VALUES, ImageArray, ReadOptions
from seqnorm_monai.images.records import FileRecord, FileStatus
from seqnorm_monai.images.rows import SeriesRow

# how the reason of a good file begins whose neighbours are bad
OF_SERIES = "its series is refused: "

# phases of one image, in their order, to one array
Reader = Callable[[Sequence[Any], ReadOptions], ImageArray]


@dataclass(frozen=True)
class ImageEntry:
    """A row, the phase of an image that it is about, and the names and places of the files that this comes from.

    `reader` reads `volume`, together with other phases on the same grid. `derived`: the kind of a computed map, "" for
    an image as it was acquired. `bits`: those of a stored value, 1 for a mask. `attributes`: what selection rules ask
    for, {} for all but DICOM.
    """

    row: SeriesRow
    reader: Reader
    volume: object
    names: tuple[str, ...]
    paths: tuple[Path, ...]
    derived: str = ""
    bits: int = 0
    attributes: Mapping[str, object] = field(default_factory=dict)

    def read(self, options: ReadOptions = MODALITY_VALUES) -> ImageArray:
        """Decode this phase alone. Raises ImageReadError."""
        return self.reader([self.volume], options)


@dataclass
class Inventory:
    """The images of a folder, the rows of what is refused of its series, and its files, one record each."""

    entries: list[ImageEntry]
    files: list[FileRecord]
    refused: list[SeriesRow] = field(default_factory=list)

    @property
    def rows(self) -> list[SeriesRow]:
        """All rows, by study and series, what is refused of a series behind its images."""
        rows = [entry.row for entry in self.entries] + self.refused
        return sorted(rows, key=lambda row: (row.study, row.series, row.status == FileStatus.REJECTED))

    def change(self, entry: ImageEntry, **fields: object) -> None:
        """Change fields of the row of an entry, which is known by its row's key."""
        place = next(place for place, one in enumerate(self.entries) if one.row.key == entry.row.key)
        current = self.entries[place]
        self.entries[place] = replace(current, row=replace(current.row, **fields))

    def reject(self, entry: ImageEntry, error: ImageReadError) -> None:
        """Account for an entry whose pixels turned out to be unreadable.

        Its row says so. The file that `error` names is rejected with its reason, the others because of it, except
        for files that another entry uses, too: they stay used, with the reason.
        """
        self.change(entry, status=FileStatus.REJECTED, reasons=(*entry.row.reasons, error.reason))
        culprits = {name for name, path in zip(entry.names, entry.paths, strict=False) if path == error.path}
        culprit = f"{min(culprits)}: " if culprits else ""
        shared = {name for one in self.entries if one.row.status == FileStatus.USED for name in one.names}
        for names, reason in (
            (culprits, error.reason),
            (set(entry.names) - culprits, OF_SERIES + culprit + error.reason),
        ):
            self.mark(names - shared, FileStatus.REJECTED, reason)
            self.mark(names & shared, FileStatus.USED, f"in part, elsewhere {error.reason}")

    def mark(self, names: set[str], status: FileStatus, reason: str) -> None:
        """Change the records of the files with these names that were used so far."""
        # an archive may hold two members of one name, of which one is refused
        changed = {"status": status, "reason": reason}
        hit = [one.path in names and one.status == FileStatus.USED for one in self.files]
        self.files = [replace(one, **changed) if of else one for one, of in zip(self.files, hit, strict=True)]
