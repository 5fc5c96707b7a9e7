"""What became of every file of a data set whose items may have many files, and may share them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from seqnorm_monai.data.fault_tolerant import FILES, SERIES, STUDY, path_of

PREDICTED, USED, ASIDE, REJECTED = "predicted", "used", "set_aside", "rejected"
_ORDER = (PREDICTED, USED, ASIDE, REJECTED)


class FileStatuses:
    """Rows (path, status, reason, study, series), each file once, when the last of its items is settled.

    A file that several items share, as a multi-frame file does whose frames are several images, has the best status of
    them (a predicted image before a rejected one) and the reasons of all.
    """

    def __init__(self, items: Sequence[Mapping[str, Any]]) -> None:
        self._items: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for item in items:
            self._items[path_of(item)].append(item)
        self._open = Counter(path for item in items for path in _files(item))
        self._rows: dict[str, list[tuple[str, ...]]] = defaultdict(list)

    def record(self, path: str, status: str, reason: str, uids: Sequence[str] = ("", "")) -> list[tuple[str, ...]]:
        """Rows of the files of which the fate is known now that one item at `path` has this status."""
        item = self._items[path].pop(0)
        files = _files(item)
        if status == PREDICTED and len(files) > 1:
            status = USED
        known = [item.get(key) or uid for key, uid in zip((STUDY, SERIES), uids, strict=True)]
        for file in files:
            self._rows[file].append((file, status, reason, *known))
            self._open[file] -= 1
        return [_merged(self._rows.pop(file)) for file in files if not self._open[file]]


def _files(item: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(item.get(FILES) or (path_of(item),))


def _merged(rows: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    best = min(rows, key=lambda row: _ORDER.index(row[1]))
    reasons = "; ".join(dict.fromkeys(row[2] for row in rows if row[2]))
    return (*best[:2], reasons, *best[3:])
