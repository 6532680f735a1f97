"""Read csv strictly: every fault is named by file, line and column. Lines and columns count from 1, header included."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from mmcontrast.data.files import CHUNK_BYTES
from mmcontrast.errors import DataError, nearest

MAX_CSV_BYTES = 2 * 1024**3
MAX_CSV_COLUMNS = 100_000
MAX_CSV_CELLS = 100_000_000
CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True)
class Sheet:
    """A csv as text.

    Attributes:
        path: of the file.
        names: column names: the header's, or `column 1` ... without one.
        cells: all columns as text; null where a cell is empty.
        first_line: line of the first row of `cells`.
    """

    path: Path
    names: list[str]
    cells: pl.DataFrame
    first_line: int

    def __len__(self) -> int:
        return self.cells.height


def read_sheet(path: Path, header: bool) -> Sheet:
    """A comma-separated file, every row with the same number of cells.

    Raises:
        DataError: missing, empty, not UTF-8, a row of another length, a column name that is repeated.
    """
    try:
        check_text(path)
        # the header is read as a row of text: polars would quietly rename a repeated name
        cells = pl.read_csv(path, has_header=False, infer_schema=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run `mmcontrast data fetch` again") from None
    except pl.exceptions.NoDataError:
        raise DataError(f"{path}: the file is empty") from None
    except (pl.exceptions.PolarsError, OSError) as e:
        raise DataError(f"{path}: not readable as csv ({_ragged(path) or str(e).splitlines()[0]})") from None
    if not header:
        return Sheet(path, [f"column {i + 1}" for i in range(cells.width)], cells, first_line=1)
    names = [name or "" for name in cells.row(0)]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise DataError(f"{path}: line 1: columns {names.index(name) + 1} and {i + 1} are both called '{name}'")
        if not name and i > 0:
            raise DataError(f"{path}: line 1: column {i + 1} has no name")
    return Sheet(path, names, cells.slice(1), first_line=2)


def check_text(path: Path) -> None:
    """Refuse a csv that is too large, and control characters, which no reader of numbers shows.

    Raises:
        DataError: too many bytes, columns or cells, or a line with a NUL or another control character.
        OSError: no such file.
    """
    size = path.stat().st_size
    if size > MAX_CSV_BYTES:
        raise DataError(f"{path}: {size} bytes, and at most {MAX_CSV_BYTES} are read")
    lines, commas = 1, 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            if found := CONTROL.search(chunk):
                line = lines + chunk.count(b"\n", 0, found.start())
                raise DataError(f"{path}: line {line}: a control character (byte {found[0][0]}); the file is damaged")
            commas += chunk.count(b",")
            lines += chunk.count(b"\n")
            if commas > MAX_CSV_CELLS or commas > MAX_CSV_COLUMNS * lines:
                raise DataError(
                    f"{path}: {commas} commas in {lines} lines; at most {MAX_CSV_CELLS} cells and {MAX_CSV_COLUMNS} "
                    "columns are read"
                )


def _ragged(path: Path) -> str | None:
    """Where the number of commas changes, as the likely cause of an unreadable file."""
    with path.open("rb") as lines:
        width = None
        for number, line in enumerate(lines, start=1):
            count = line.count(b",") + 1
            width = width or count
            if count != width:
                return f"line {number} has {count} cells, and line 1 has {width}"
    return None


def expect(sheet: Sheet, rows: int, rows_key: str, width: int, width_key: str, skip: int = 0) -> None:
    """Hold the size of a sheet of features against params/.

    Args:
        rows_key, width_key: which keys of params/ say so. skip: leading columns that are no features.

    Raises:
        DataError: another number of rows or of feature columns.
    """
    found = sheet.cells.width - skip
    if found != width:
        raise DataError(f"{sheet.path}: {found} feature columns, and {width_key} says {width}")
    if len(sheet) != rows:
        raise DataError(f"{sheet.path}: {len(sheet)} rows, and {rows_key} says {rows}")


def column(sheet: Sheet, name: str) -> list[str]:
    """A column as text.

    Raises:
        DataError: there is no such column, or a cell of it is empty.
    """
    if name not in sheet.names:
        hint = nearest(name, [n for n in sheet.names[:20] if n])
        raise DataError(f"{sheet.path}: no column '{name}'; {hint}")
    values = sheet.cells.to_series(sheet.names.index(name)).to_list()
    for i, value in enumerate(values):
        if value is None:
            raise DataError(f"{sheet.path}: line {sheet.first_line + i}: column '{name}' is empty")
    return values


def numbers(sheet: Sheet, names: Sequence[str], first: int = 0) -> np.ndarray:
    """Neighbouring columns as numbers, each of them finite.

    Args:
        names: what to call the columns in messages; as many are read. first: index of the first of them.

    Returns:
        (rows, len(names)) float64.

    Raises:
        DataError: the first cell that is empty, not a number, NaN or infinite, and how many more there are.
    """
    text = sheet.cells[:, first : first + len(names)]
    values = np.ascontiguousarray(text.cast(pl.Float64, strict=False).to_numpy(), dtype=np.float64)
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        i, j = (int(k) for k in bad[0])
        cell = text.row(i)[j]
        what = "is empty" if cell is None else f"holds '{cell}', which is not a finite number"
        more = f" (and {len(bad) - 1} more such cells)" if len(bad) > 1 else ""
        raise DataError(
            f"{sheet.path}: line {sheet.first_line + i}, column {first + j + 1} ({names[j]}) {what}{more}; "
            "no dataset here is known to have gaps, so none is filled in"
        )
    return values


def class_indices(sheet: Sheet, values_N: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Labels written as numbers (0.0, 1.0, ...) as int64 class indices.

    Raises:
        DataError: a label is no whole number or no index into `classes`.
    """
    for i, value in enumerate(values_N.tolist()):
        if value not in range(len(classes)):
            accepted = ", ".join(f"{k} = {c}" for k, c in enumerate(classes))
            raise DataError(f"{sheet.path}: line {sheet.first_line + i}: label {value:g}; accepted: {accepted}")
    return values_N.astype(np.int64)
