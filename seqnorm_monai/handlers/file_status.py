"""What became of every file of a data set whose items may have many files, and may share them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from seqnorm_monai.data.fault_tolerant import FILES, SERIES, STUDY, item_path
from seqnorm_monai.images.records import FileStatus

# the best comes first
_ORDER = (FileStatus.PREDICTED, FileStatus.USED, FileStatus.SET_ASIDE, FileStatus.REJECTED)


class FileStatuses:
    """Rows (path, status, reason, study, series), each file once, when the status of the last of its items is recorded.

    A file that several items share, as a multi-frame file does whose frames are several images, has the best status of
    them (a predicted image before a rejected one) and the reasons of all.
    """

    def __init__(self, items: Sequence[Mapping[str, Any]]) -> None:
        self._items = items
        self._unrecorded = set(range(len(items)))
        self._open = Counter(path for item in items for path in _files(item))
        self._rows: dict[str, list[tuple[str, ...]]] = defaultdict(list)

    @property
    def unrecorded(self) -> list[int]:
        """The positions of the items without a status, in order."""
        return sorted(self._unrecorded)

    def record(
        self, index: int, status: FileStatus, reason: str, uids: Sequence[str] = ("", "")
    ) -> list[tuple[str, ...]]:
        """Rows of the files whose status is known now that the item at `index` has this one.

        Raises KeyError when that item has a status already.
        """
        self._unrecorded.remove(index)
        item = self._items[index]
        files = _files(item)
        if status == FileStatus.PREDICTED and len(files) > 1:
            status = FileStatus.USED
        known = [item.get(key) or uid for key, uid in zip((STUDY, SERIES), uids, strict=True)]
        for file in files:
            self._rows[file].append((file, status, reason, *known))
            self._open[file] -= 1
        return [_merged(self._rows.pop(file)) for file in files if not self._open[file]]


def _files(item: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(item.get(FILES) or (item_path(item),))


def _merged(rows: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    best = min(rows, key=lambda row: _ORDER.index(row[1]))
    reasons = "; ".join(dict.fromkeys(row[2] for row in rows if row[2]))
    return (*best[:2], reasons, *best[3:])
