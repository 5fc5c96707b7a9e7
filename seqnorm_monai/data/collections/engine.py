"""What all collections have in common: entries to a datalist, with an account of what has no image or no label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seqnorm_monai.data.datalists import (
    SIDE,
    SPLITS,
    DatalistError,
    patient_key,
    patients_in_two_splits,
    summarise_problems,
)
from seqnorm_monai.data.splits import divide


@dataclass(frozen=True)
class Entry:
    """One thing that a collection labels: an image, or one side of it.

    `name`: as the collection names it, for messages. `image`: None where there is none. `labels`: None where it is not
    labelled. `split`: "" where the collection has no official one.
    """

    name: str
    image: Path | None
    patient: str
    labels: tuple[str, ...] | None
    side: str = ""
    split: str = ""


@dataclass(frozen=True)
class Collection:
    """One collection: its classes in their order, and how its entries are found below a folder.

    `entries`: takes the folder, and the table where the user gives one. `cannot`: why its labels cannot support the
    task of its classes, "" where they can. `source`: where its layout is described.
    """

    name: str
    classes: tuple[str, ...]
    entries: Callable[[Path, Path | None], Iterable[Entry]]
    source: str
    cannot: str = ""


@dataclass
class Prepared:
    """A datalist, and the names of what it leaves out."""

    datalist: dict[str, list[dict[str, Any]]]
    classes: tuple[str, ...]
    without_image: list[str] = field(default_factory=list)
    without_label: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The counts, and all that is left out, by name."""
        found = []
        for split, items in self.datalist.items():
            positives = Counter(label for item in items for label in item["label"])
            counts = ", ".join(f"{name} {positives[name]}" for name in self.classes)
            patients = len({patient_key(item["patient"]) for item in items})
            found.append(f"{split}: {len(items)} items of {patients} patients; positive: {counts}")
        for text, names in (
            ("without an image", self.without_image),
            ("without a label", self.without_label),
            ("listed again, counted once", self.repeated),
        ):
            if names:
                found.append(f"{len(names)} {text}: {', '.join(sorted(names))}")
        return found


def prepare(
    described: Collection, root: Path, table: Path | None, *, fractions: Sequence[float], seed: int
) -> Prepared:
    """The datalist of a collection below `root`.

    Splits are the official ones where every entry has one, and validation comes out of the training where there is
    none; else patients are divided by `fractions` and `seed`.

    Raises DatalistError for a folder without such a collection, for labels that contradict each other, a patient in two
    official splits, and for a collection whose labels cannot support the task.
    """
    if not root.is_dir():
        raise DatalistError(f"argument root: {root} is no folder")
    if described.cannot:
        raise DatalistError(f"{described.name}: {described.cannot}")
    found = list(described.entries(root, table))
    if not found:
        raise DatalistError(f"argument root: {root} holds nothing of {described.name} (layout: {described.source})")
    result = Prepared({split: [] for split in SPLITS}, described.classes)
    kept = _kept(found, result)
    if not kept:
        raise DatalistError(f"{described.name}: nothing has both an image and a label; {'; '.join(result.lines()[3:])}")
    for entry, split in zip(kept, _splits(kept, described, fractions, seed), strict=True):
        item = {"image": str(entry.image), "label": list(entry.labels or ()), "patient": entry.patient}
        result.datalist[split].append({**item, **({SIDE: entry.side} if entry.side else {})})
    return result


def _kept(found: Iterable[Entry], result: Prepared) -> list[Entry]:
    """The entries with image and label, each once; a second one must say the same."""
    kept: dict[tuple[object, str], Entry] = {}
    problems = []
    for entry in found:
        if entry.image is None:
            result.without_image.append(entry.name)
        elif entry.labels is None:
            result.without_label.append(entry.name)
        elif (earlier := kept.get((entry.image, entry.side))) is None:
            kept[entry.image, entry.side] = entry
        elif (earlier.labels, earlier.split) == (entry.labels, entry.split):
            result.repeated.append(entry.name)
        else:
            problems.append(f"{entry.name} has two labels or splits; correct the table")
    if problems:
        raise DatalistError(summarise_problems("the collection's tables", problems))
    return list(kept.values())


def _splits(kept: Sequence[Entry], described: Collection, fractions: Sequence[float], seed: int) -> Sequence[str]:
    if all(entry.split for entry in kept):
        if problems := patients_in_two_splits((entry.patient, entry.split) for entry in kept):
            raise DatalistError(summarise_problems(f"{described.name}: the official splits", problems))
        return _with_validation(kept, fractions, seed)
    patients = [patient_key(entry.patient) for entry in kept]
    return divide([list(entry.labels or ()) for entry in kept], patients, tuple(fractions), seed)


def _with_validation(kept: Sequence[Entry], fractions: Sequence[float], seed: int) -> list[str]:
    """The official splits; where there is no validation, some of the patients for training."""
    splits = [entry.split for entry in kept]
    training, validation, _ = SPLITS
    if validation in splits or not fractions[1]:
        return splits
    own = [place for place, split in enumerate(splits) if split == training]
    part = fractions[1] / (fractions[0] + fractions[1])
    patients = [patient_key(kept[place].patient) for place in own]
    divided = divide([list(kept[place].labels or ()) for place in own], patients, (1 - part, part, 0.0), seed)
    for place, split in zip(own, divided, strict=True):
        splits[place] = split
    return splits


def labelled(values: Mapping[str, tuple[str, ...]], cell: str) -> tuple[str, ...] | None:
    """The labels that a cell stands for; None for one that says that it is not known."""
    return values.get(cell.strip())
