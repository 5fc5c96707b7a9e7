"""Tables of collections, CSV or Excel: every cell as text, columns by their names, stripped."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pandas as pd

from seqnorm_monai.data.datalists import DatalistError
from seqnorm_monai.data.label_tables import read_table
from seqnorm_monai.optional import require

# as pandas and people write what is not there; texts such as NC have meanings of their own
_EMPTY = ("", "nan", "NaN", "None")


def read_sheet(path: Path, columns: tuple[str, ...], *, sheet: str | int = 0, header: int = 0) -> pd.DataFrame:
    """The named columns of a table; of two columns with one name the first.

    `sheet` and `header` (the row of the names, from 0) are those of an Excel file.

    Raises DatalistError for a file that cannot be read and a column that is missing; ImportError where openpyxl is.
    """
    if not path.is_file():
        raise DatalistError(f"{path}: the table is missing; put it there, or name it with --table")
    table = _excel(path, sheet, header) if path.suffix.lower() in (".xlsx", ".xlsm") else read_table(path)
    names = [str(name).strip() for name in table.columns]
    # editions of one table differ in capitals
    known = [name.casefold() for name in names]
    missing = [name for name in columns if name.casefold() not in known]
    if missing:
        raise DatalistError(f"{path}: column {', '.join(missing)} is missing; there are {', '.join(names[:12])}")
    found = pd.DataFrame({name: table.iloc[:, known.index(name.casefold())] for name in columns})
    return found.map(lambda cell: "" if str(cell).strip() in _EMPTY else str(cell).strip())


def _excel(path: Path, sheet: str | int, header: int) -> pd.DataFrame:
    require("openpyxl", "collections")
    try:
        return pd.read_excel(path, sheet_name=sheet, header=header, dtype=str, keep_default_na=False)
    # a damaged workbook raises what its ZIP archive and its XML raise
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise DatalistError(f"{path}: cannot be read as Excel ({type(error).__name__})") from error
