"""How each dynamic study of an inference was understood: `studies.csv`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from seqnorm_monai.data.datalists import SIDE
from seqnorm_monai.data.dynamic import CLOCK, DECIDED
from seqnorm_monai.data.fault_tolerant import PATH, SECONDS, STUDY, item_path

STUDY_COLUMNS = (PATH, "StudyInstanceUID", "sides", "phases", SECONDS, CLOCK, DECIDED)


def has_studies(items: Sequence[Mapping[str, Any]]) -> bool:
    """Whether there is a dynamic study among the items."""
    return any(DECIDED in item for item in items)


def study_rows(items: Sequence[Mapping[str, Any]], relative: Callable[[str], str]) -> Iterator[list[str]]:
    """A row for each study: its first file, the sides that it shows, its phases, their seconds, and what decided.

    `clock` is the attribute by which the phases were ordered, `decided` how pre was told from the others.
    """
    studies: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for item in items:
        if DECIDED in item:
            studies.setdefault((item_path(item), str(item.get(STUDY, ""))), []).append(item)
    for (path, uid), found in studies.items():
        first = found[0]
        seconds = " ".join("" if value is None else f"{value:.6g}" for value in first[SECONDS]).strip()
        sides = " ".join(dict.fromkeys(str(item[SIDE]) for item in found if SIDE in item))
        count = str(len(first[SECONDS]))
        yield [relative(os.fspath(path)), uid, sides, count, seconds, first[CLOCK], first[DECIDED]]
