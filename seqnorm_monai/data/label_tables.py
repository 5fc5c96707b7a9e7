"""From a table of labels and a folder of images to a datalist, with every patient on one side of the split.

Tables come from spreadsheets and from pandas: separators are commas, semicolons or tabs, numbers gain a ".0", and no
finding has many spellings. `read_table` and the functions on single cells settle that once, for all that read tables.
"""

import csv
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from seqnorm_monai.data.datalists import (
    SPLITS,
    DatalistError,
    is_nobody,
    patient_key,
    patients_in_two_splits,
    summarise_problems,
)
from seqnorm_monai.data.image_paths import ImagePaths
from seqnorm_monai.data.splits import divide

logger = logging.getLogger(__name__)

_OWN_COLUMNS = ("image", "patient", "split", "labels")
# what pandas calls a column without a name
_UNNAMED = re.compile(r"Unnamed: \d+(_level_\d+)?")
_SEPARATORS = (",", ";", "\t")
_TRUE, _FALSE = re.compile(r"1([.,]0+)?|true", re.I), re.compile(r"-?0([.,]0+)?|false", re.I)
_UNCERTAIN = re.compile(r"-1([.,]0+)?")
# without spaces, hyphens, underscores and capitals; "nan" and "na" are what pandas and R write for an empty cell
_NO_FINDING = {"", "nofinding", "nofindings", "none", "null", "nan", "na", "n/a", "<na>"}


@dataclass(frozen=True)
class _Row:
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
    """The datalist (see `datalists`) of the images that a table names: `{"training": [...], "validation": [...], ...}`.

    Columns: `image`, a path relative to `image_dir`; `patient`; then either `labels`, class names joined by `|` (empty
    or a spelling of "No Finding" for none), or one column of 0 and 1 per class; and, if it is there, `split`, used as
    given. `class_names` None takes the names found, in alphabetical order for `labels`, in the order of the columns
    otherwise; a "No Finding" in `labels` is a class only if `class_names` holds it. Image paths in the result are
    absolute: `write_datalist` makes them relative.

    Without a `split` column, `splits.divide` divides the patients by `fractions` and `seed`.

    Raises `DatalistError` with line and column for whatever is wrong in the table, and what `divide` raises.
    """
    rows = _read_rows(labels_csv, os.path.abspath(image_dir), class_names)
    if rows[0].split is None:
        # 007 and 7 may be one patient, and cost nothing on one side
        patients = [patient_key(row.patient).lstrip("0") for row in rows]
        splits = divide([row.label for row in rows], patients, fractions, seed)
    else:
        splits = [str(row.split) for row in rows]
    return {
        split: [
            {"image": row.image, "label": row.label, "patient": row.patient}
            for row, own in zip(rows, splits, strict=True)
            if own == split
        ]
        for split in SPLITS
    }


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """A table of text in UTF-8 or UTF-16: stripped column names and cells, the index the line of each row in the file.

    The separator is the comma, semicolon or tab that divides the header into most names. Blank lines are left out, and
    columns without a name, of which those with content are named in the log: most are the row numbers of pandas, which
    also writes ``Unnamed: 0`` for them. The names image, patient, labels and split may have capitals. Raises
    `DatalistError` for a file that is no such table, for a row with more or fewer cells than the header, and a column
    name that stands twice.
    """
    where = f"labels_csv {path}"
    table = _read_cells(path, where)
    # a quoted cell may hold line breaks
    ends = table.map(lambda cell: str(cell).count("\n")).sum(axis=1) + 1
    table.index = ends.cumsum()
    is_missing = table.isna()
    table = table.map(lambda cell: "" if pd.isna(cell) else cell.strip())
    is_blank = (table == "").all(axis=1)
    columns, below = table.iloc[0].tolist(), table.iloc[1:][~is_blank.iloc[1:]]
    short = below.index[is_missing.loc[below.index].any(axis=1)].tolist()
    if short:
        raise DatalistError(summarise_problems(where, [_wrong_number(line) for line in short]))
    nameless = [position for position, name in enumerate(columns) if not name or _UNNAMED.fullmatch(name)]
    filled = [str(position + 1) for position in nameless if (below[position] != "").any()]
    if filled:
        logger.warning(f"{where}: column number {', '.join(filled)} has no name, and is left out")
    kept = [_own_name(name) for position, name in enumerate(columns) if position not in nameless]
    below = below.drop(columns=nameless).set_axis(kept, axis=1)
    repeated = sorted(set(below.columns[below.columns.duplicated()]))
    if repeated:
        raise DatalistError(f"{where}: column {', '.join(repeated)} stands twice; keep one")
    return below


def _own_name(name: str) -> str:
    """Image, IMAGE and image are one column; names of classes stay as they are."""
    return name.lower() if name.lower() in _OWN_COLUMNS else name


def patient_text(cell: str) -> str:
    """The name of a patient: 12.0, which is what pandas makes of the number 12, is 12; 007 stays as it is."""
    number = re.fullmatch(r"(0|[1-9]\d*)\.0+", cell)
    return number[1] if number else cell


def is_no_finding(name: str) -> bool:
    """Whether a label says that nothing was found: "No Finding" in any spelling, "none", or what stands for empty."""
    return re.sub(r"[\s_-]+", "", name).casefold() in _NO_FINDING


def flag(cell: str) -> bool:
    """A cell of a class's own column: 1, 1.0 and True, 0, 0.0 and False. Raises ValueError that says what it is."""
    if _TRUE.fullmatch(cell):
        return True
    if _FALSE.fullmatch(cell):
        return False
    hint = ""
    if not cell or cell.casefold() in _NO_FINDING:
        hint = ", a blank cell: decide what it means (for CheXpert: not mentioned) and write 0 or 1"
    elif _UNCERTAIN.fullmatch(cell):
        hint = ", the mark of an uncertain label: decide what it means and write 0 or 1"
    raise ValueError(f"must be 0 or 1; got {cell!r}{hint}")


def _read_cells(path: str | os.PathLike[str], where: str) -> pd.DataFrame:
    """All cells of the file as text, the header as the first row; NaN where a row ends early."""
    try:
        with open(path, encoding=_encoding(path, where), newline="") as stream:
            separator = _separator(stream.readline())
            stream.seek(0)
            # the engine "python" refuses a quote that is not closed, which "c" lets pass
            return pd.read_csv(
                stream,
                sep=separator,
                header=None,
                dtype=str,
                na_filter=False,
                skip_blank_lines=False,
                skipinitialspace=True,
                engine="python",
            )
    except OSError as error:
        raise DatalistError(f"{where}: cannot be opened ({error.strerror}); check the path") from error
    except pd.errors.EmptyDataError as error:
        raise DatalistError(f"{where}: is empty; write a header with the columns image and patient") from error
    except (pd.errors.ParserError, csv.Error, UnicodeDecodeError) as error:
        wrong = re.search(r"Expected \d+ fields in line (\d+)", str(error))
        problem = _wrong_number(int(wrong[1])) if wrong else f"is not a CSV file in UTF-8 ({error}); save it as one"
        raise DatalistError(f"{where}: {problem}") from error


def _encoding(path: str | os.PathLike[str], where: str) -> str:
    """UTF-16 by its mark, else UTF-8: spreadsheets put a mark in front of the first column's name in both."""
    with open(path, "rb") as stream:
        start = stream.read(4)
    if start.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise DatalistError(f"{where}: is a spreadsheet; save it as CSV (UTF-8)")
    return "utf-16" if start.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"


def _wrong_number(line: int) -> str:
    return f"line {line}, all columns: more or fewer cells than the header; quote cells that hold the separator"


def _separator(header: str) -> str:
    """The separator that makes most names of the header; the comma where there is one name only."""
    return max(_SEPARATORS, key=lambda separator: len(next(csv.reader([header], delimiter=separator), [])))


def _read_rows(path: str | os.PathLike[str], image_dir: str, class_names: Sequence[str] | None) -> list[_Row]:
    """The rows of the table, all of them right, or one `DatalistError` for all that is wrong."""
    where = f"labels_csv {path}"
    table = read_table(path)
    names = _class_names(where, table, class_names)
    rows, problems, images = [], [], ImagePaths()
    others = [] if "labels" in table or class_names is not None else _other_columns(table[names])
    if others:
        names = [name for name in names if name not in others]
        problems.append(
            f"column {', '.join(others)}: no cell is 0 or 1, so it is no class; name the classes (--classes, argument "
            "class_names), or remove the column"
        )
    for line, cells in zip(table.index, table.to_dict("records"), strict=True):
        image, found = _parse_image(cells["image"], image_dir, f"line {line}", images)
        label, odd = _parse_label(cells, names, asked_for=class_names is not None)
        row = _Row(image, patient_text(cells["patient"]), label, cells.get("split"))
        if is_nobody(row.patient):
            found.append("column patient: is empty; fill it in")
        if row.split is not None and row.split not in SPLITS:
            found.append(f"column split: {row.split!r} is none of {', '.join(SPLITS)}")
        problems += [f"line {line}, {problem}" for problem in found + odd]
        rows.append(row)
    problems += patients_in_two_splits((row.patient, row.split) for row in rows if row.split is not None)
    problems += images.overlaps()
    if problems:
        raise DatalistError(summarise_problems(where, problems))
    if not rows:
        raise DatalistError(f"{where}: has no row below its header")
    return rows


def _class_names(where: str, table: pd.DataFrame, class_names: Sequence[str] | None) -> list[str]:
    """Check the header and find the classes."""
    if "image" not in table:
        raise DatalistError(f"{where}: column image is missing; give each image's path relative to image_dir")
    if "patient" not in table:
        raise DatalistError(
            f"{where}: column patient is missing; without it images of one patient can stand on both sides of the "
            "split, and the test result would be too good. Add a column patient with a pseudonym for each image's "
            "patient (one per PatientID)"
        )
    own = [name for name in table.columns if name not in _OWN_COLUMNS]
    if class_names is not None:
        names = list(class_names)
        if not names or len(set(names)) < len(names):
            raise DatalistError(f"argument class_names must be a non-empty list of different names; got {names}")
    elif "labels" in table:
        names = sorted({name for cell in table["labels"] for name in _listed(cell, ())})
    else:
        names = own
    _check_spellings(where, names)
    absent = [name for name in names if name not in own]
    if not names or ("labels" not in table and absent):
        missing = ", ".join(absent) or "one for each class"
        raise DatalistError(f"{where}: no column labels, and no column of 0 and 1 for: {missing}; add one or the other")
    return names


def _check_spellings(where: str, names: Sequence[str]) -> None:
    """Refuse two classes that differ in capitals and blanks alone: one finding, spelt in two ways."""
    spellings: dict[str, list[str]] = {}
    for name in names:
        spellings.setdefault(re.sub(r"[\s_-]+", "", name).casefold(), []).append(name)
    for same in spellings.values():
        if len(same) > 1:
            raise DatalistError(f"{where}: {' and '.join(map(repr, same))} are one class in two spellings; keep one")


def _other_columns(classes: pd.DataFrame) -> list[str]:
    """Columns of another kind, such as age and sex: no cell of theirs is a label, not even a missing one."""
    patterns = (_TRUE, _FALSE, _UNCERTAIN, re.compile(""))
    is_label = classes.map(lambda cell: any(pattern.fullmatch(cell) for pattern in patterns))
    return [name for name in classes if len(classes) and not is_label[name].any()]


def _listed(cell: str, asked_for: Sequence[str]) -> list[str]:
    """The classes of a cell of the column `labels`; a spelling of no finding is one only if it was asked for."""
    names = [name.strip() for name in cell.split("|")]
    return [name for name in names if name in asked_for or not is_no_finding(name)]


def _parse_image(cell: str, image_dir: str, where: str, images: ImagePaths) -> tuple[str, list[str]]:
    """The absolute path of a row's image, and what is wrong with it."""
    if not cell:
        return "", ["column image: is empty; fill it in"]
    image = os.path.normpath(os.path.join(image_dir, cell))
    if os.path.isabs(cell):
        return image, [f"column image: {image} is absolute; give the path relative to image_dir"]
    found = images.problem(where, image)
    if found is not None and found.endswith("does not exist"):
        found += "; paths are relative to image_dir"
    return image, [] if found is None else [f"column image: {found}"]


def _parse_label(cells: Mapping[str, str], names: Sequence[str], *, asked_for: bool) -> tuple[list[str], list[str]]:
    """The classes of a row, and what is wrong with them, each problem beginning with the column."""
    problems = []
    if "labels" in cells:
        label = _listed(cells["labels"], names)
        unknown = [name for name in label if name not in names]
        if unknown:
            problems.append(f"column labels: unknown {', '.join(unknown)}; allowed are {', '.join(names)}")
        joined = [name for name in label if ";" in name]
        if joined and not asked_for:
            problems.append(f"column labels: {joined[0]!r} holds a semicolon; join names of classes by |")
        if len(set(label)) < len(label):
            problems.append(f"column labels: a name stands twice in {cells['labels']}")
        return label, problems
    label = []
    for name in names:
        try:
            if flag(cells[name]):
                label.append(name)
        except ValueError as error:
            problems.append(f"column {name}: {error}")
    return label, problems
