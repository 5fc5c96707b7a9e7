"""From a table of labels and a folder of images to a datalist, with every patient on one side of the split."""

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold

from seqnorm_monai.data.datalist_rules import SPLITS, DatalistError, leaks, summary_of

NO_FINDING = "No Finding"
_OWN_COLUMNS = ("image", "patient", "split", "labels")
# a fold is the unit of the stratified split; more folds than this leave too few patients in each
_MOST_FOLDS = 20


@dataclass(frozen=True)
class _Row:
    line: int
    image: str
    patient: str
    label: list[str]
    split: str | None


def build_datalist(
    labels_csv: str | os.PathLike[str],
    image_dir: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    seed: int = 0,
) -> dict[str, list[dict[str, Any]]]:
    """The datalist (see `datalists`) of the images a CSV names, as `{"training": [...], "validation": [...], ...}`.

    Columns: `image`, a path relative to `image_dir`; `patient`; then either `labels`, class names joined by `|` (empty
    or "No Finding" for none), or one column of 0 and 1 per class; and, if it is there, `split`, used as given.
    `class_names` None takes the names found, in alphabetical order for `labels`, in the order of the columns otherwise.
    Image paths in the result are absolute: `write_datalist` makes them relative.

    Without a `split` column, patients are divided by `fractions` (of training, validation and test), stratified by the
    rarest class of each image; the result depends on the rows and `seed` only. With few patients, patients are drawn
    without stratification; each split with a fraction above 0 gets at least one.

    Raises `DatalistError` with line and column for whatever is wrong in the table, and for fractions that do not sum to
    1 or ask for more splits than there are patients.
    """
    rows = _read_rows(labels_csv, os.path.abspath(image_dir), class_names)
    splits = [str(row.split) for row in rows] if rows[0].split is not None else _divide(rows, fractions, seed)
    return {
        split: [
            {"image": row.image, "label": row.label, "patient": row.patient}
            for row, own in zip(rows, splits, strict=True)
            if own == split
        ]
        for split in SPLITS
    }


def _read_rows(path: str | os.PathLike[str], image_dir: str, class_names: Sequence[str] | None) -> list[_Row]:
    """The rows of the table, all of them right, or one `DatalistError` for all that is wrong."""
    where = f"labels_csv {path}"
    try:
        # utf-8-sig: spreadsheets put a byte order mark in front of the first column's name
        with open(path, encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = list(reader.fieldnames or [])
            lines = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise DatalistError(f"{where}: cannot be opened ({error.strerror}); check the path") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DatalistError(f"{where}: is not a CSV file in UTF-8 ({error})") from error
    names = _class_names(where, columns, lines, class_names)
    rows, problems = [], []
    images: dict[str, int] = {}
    for line, cells in lines:
        row, found = _parse_row(line, cells, image_dir, names, "labels" in columns)
        problems += [f"line {line}, {problem}" for problem in found]
        rows.append(row)
        if row.image and images.setdefault(row.image, line) != line:
            problems.append(f"line {line}, column image: {row.image} stands already in line {images[row.image]}")
    splits_of_patient: dict[str, list[str]] = {}
    for row in rows:
        standing = splits_of_patient.setdefault(row.patient, [])
        if row.split is not None and row.split not in standing:
            standing.append(row.split)
    problems += leaks(splits_of_patient)
    if problems:
        raise DatalistError(summary_of(where, problems))
    if not rows:
        raise DatalistError(f"{where}: has no row below its header")
    return rows


def _class_names(
    where: str,
    columns: Sequence[str],
    lines: Sequence[tuple[int, Mapping[str, str]]],
    class_names: Sequence[str] | None,
) -> list[str]:
    """Check the header and find the classes."""
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise DatalistError(f"{where}: column {', '.join(repeated)} stands twice; keep one")
    if "image" not in columns:
        raise DatalistError(f"{where}: column image is missing; give each image's path relative to image_dir")
    if "patient" not in columns:
        raise DatalistError(
            f"{where}: column patient is missing; without it images of one patient can stand on both sides of the "
            "split, and the test result would be too good. Add a column patient with a pseudonym for each image's "
            "patient (one per PatientID)"
        )
    own = [name for name in columns if name not in _OWN_COLUMNS]
    if class_names is not None:
        names = list(class_names)
        if not names or len(set(names)) < len(names):
            raise DatalistError(f"argument class_names must be a non-empty list of different names; got {names}")
    elif "labels" in columns:
        names = sorted({name for _, cells in lines for name in _listed(cells.get("labels"))})
    else:
        names = own
    absent = [name for name in names if name not in own]
    if not names or ("labels" not in columns and absent):
        missing = ", ".join(absent) or "one for each class"
        raise DatalistError(f"{where}: no column labels, and no column of 0 and 1 for: {missing}; add one or the other")
    return names


def _listed(cell: str | None) -> list[str]:
    names = [name.strip() for name in (cell or "").split("|")]
    return [name for name in names if name and name != NO_FINDING]


def _parse_row(
    line: int, cells: Mapping[Any, Any], image_dir: str, names: Sequence[str], listed: bool
) -> tuple[_Row, list[str]]:
    """One row and what is wrong with it, each problem beginning with the column."""
    if None in cells or None in cells.values():
        return _Row(line, "", "", [], None), [
            "all columns: more or fewer cells than the header; quote cells with commas"
        ]
    values = {column: cell.strip() for column, cell in cells.items()}
    problems = [f"column {column}: is empty; fill it in" for column in ("image", "patient") if not values[column]]
    image = os.path.normpath(os.path.join(image_dir, values["image"])) if values["image"] else ""
    if os.path.isabs(values["image"]):
        problems.append(f"column image: {image} is absolute; give the path relative to image_dir")
    elif image and not os.path.isfile(image):
        problems.append(f"column image: {image} is not a file; paths are relative to image_dir")
    split = values.get("split")
    if split is not None and split not in SPLITS:
        problems.append(f"column split: {split!r} is none of {', '.join(SPLITS)}")
    if listed:
        label = _listed(values["labels"])
        unknown = [name for name in label if name not in names]
        if unknown:
            problems.append(f"column labels: unknown {', '.join(unknown)}; allowed are {', '.join(names)}")
        if len(set(label)) < len(label):
            problems.append(f"column labels: a name stands twice in {values['labels']}")
    else:
        label = [name for name in names if values[name] == "1"]
        odd = [name for name in names if values[name] not in ("0", "1")]
        problems += [f"column {name}: must be 0 or 1; got {values[name]!r}" for name in odd]
    return _Row(line, image, values["patient"], label, split), problems


def _divide(rows: Sequence[_Row], fractions: Sequence[float], seed: int) -> list[str]:
    """The split of each row."""
    if len(fractions) != len(SPLITS) or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise DatalistError(f"argument fractions must be three numbers >= 0 that sum to 1; got {tuple(fractions)}")
    patients = np.unique([row.patient for row in rows], return_inverse=True)[1]
    wanted = sum(fraction > 0 for fraction in fractions)
    if patients.max() + 1 < wanted:
        raise DatalistError(f"argument fractions asks for {wanted} splits, but there are {patients.max() + 1} patients")
    parts = _by_folds(_strata(rows), patients, fractions, seed)
    if parts is None:
        parts = _by_draws(patients, fractions, seed)
    return [SPLITS[part] for part in parts]


def _strata(rows: Sequence[_Row]) -> list[str]:
    """The rarest class of each image, or the empty name: one label per image is what the stratified split can use."""
    frequency: dict[str, int] = {}
    for row in rows:
        for name in row.label:
            frequency[name] = frequency.get(name, 0) + 1
    return [min(row.label, key=lambda name: (frequency[name], name), default="") for row in rows]


def _by_folds(
    strata: list[str], patients: NDArray[np.intp], fractions: Sequence[float], seed: int
) -> NDArray[np.intp] | None:
    """Part 0, 1 or 2 of each row from stratified folds; None where folds do not fit the fractions or the patients."""
    fits = [k for k in range(2, _MOST_FOLDS + 1) if all(abs(f * k - round(f * k)) < 1e-9 for f in fractions)]
    if not fits or patients.max() + 1 < fits[0]:
        return None
    folds = fits[0]
    _, stratum, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    if sizes.max() < folds:
        return None
    # a class with fewer images than folds cannot be spread over them: let it go with the most common one
    stratum = np.where(sizes[stratum] < folds, sizes.argmax(), stratum)
    part_of_fold = np.repeat(np.arange(len(fractions)), [round(f * folds) for f in fractions])
    parts = np.empty(len(patients), dtype=np.intp)
    divider = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    for fold, (_, inside) in enumerate(divider.split(stratum[:, None], stratum, patients)):
        parts[inside] = part_of_fold[fold]
    return parts if set(parts) == set(part_of_fold) else None


def _by_draws(patients: NDArray[np.intp], fractions: Sequence[float], seed: int) -> NDArray[np.intp]:
    """Part 0, 1 or 2 of each row by drawing patients, first those of the test, then those of the validation."""
    parts = np.zeros(len(patients), dtype=np.intp)
    for part in (2, 1):
        if fractions[part] == 0:
            continue
        left = np.flatnonzero(parts == 0)
        others = sum(fraction > 0 for fraction in fractions[:part])
        if others == 0:
            parts[left] = part
            break
        num_left = len(np.unique(patients[left]))
        share = fractions[part] / sum(fractions[: part + 1])
        drawn = min(max(round(num_left * share), 1), num_left - others)
        divider = GroupShuffleSplit(n_splits=1, test_size=drawn, random_state=seed)
        parts[left[next(divider.split(left, groups=patients[left]))[1]]] = part
    return parts
