"""Read csv strictly: every fault is named by file, line and column. Lines and columns count from 1, header included."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mmcontrast.data.files import CHUNK_BYTES, inside
from mmcontrast.errors import DataError, FetchError, nearest

MAX_CSV_BYTES = 2 * 1024**3
MAX_CSV_COLUMNS = 100_000
MAX_CSV_CELLS = 100_000_000
CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
SEPARATORS = (",", ";", "\t", "|")
SNIFFED_BYTES = 64 * 1024
# what is no text, and is often called .csv all the same
NO_TEXT = {
    b"\x1f\x8b": "compressed by gzip; unpack it with `gunzip`",
    b"PK\x03\x04": "a zip archive or an Excel file; unpack it, or save it as .csv or .xlsx",
    b"version https://git-lfs": "a pointer of Git LFS and not the file; run `git lfs pull` where it is from",
    b"<!doctype": "a web page and not the file; download the file itself",
    b"<html": "a web page and not the file; download the file itself",
}


@dataclass(frozen=True)
class Sheet:
    """A table, of a csv with its cells as text; null where a cell is empty.

    Attributes:
        names: the header's, or `column 1` ... without one. first_line: line of the first row of `cells`.
        arrays: what has more than one number per row -> (N, ...) of it; of files that can hold that.
        unit: what a row is called in messages: line or row. said: how it was read, for the datasheet.
    """

    path: Path
    names: list[str]
    cells: pl.DataFrame
    first_line: int
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    unit: str = "line"
    said: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return next((len(x) for x in self.arrays.values()), self.cells.height)

    def at(self, row: int) -> str:
        """Where a row is."""
        return f"{self.path}: {self.unit} {self.first_line + row}"


def read_sheet(path: Path, header: bool, separator: str | None = ",", encoding: str = "utf-8", skip: int = 0) -> Sheet:
    """Separated cells, equally many in every row, after `skip` lines that are no part of it.

    `separator`: None = the one of SEPARATORS that cuts the first lines into the most cells, equally many each. Raises
    DataError: missing, empty, not of this encoding, a row of another length, a column name that is repeated.
    """
    try:
        start = _start(path)
        source: Path | bytes = path
        if encoding.lower().replace("_", "-") not in ("utf-8", "utf-8-sig") or (b"\r" in start and b"\n" not in start):
            # polars takes UTF-8, and lines that end in \n
            source = "\n".join(path.read_text(encoding).splitlines()).encode()
            start = source[:SNIFFED_BYTES]
        separator = separator or sniffed(b"".join(start.splitlines(keepends=True)[skip:]))
        check_text(path, source if isinstance(source, bytes) else None, separator.encode())
        # the header is read as a row of text: polars would quietly rename a repeated name
        cells = pl.read_csv(source, has_header=False, infer_schema=False, separator=separator, skip_lines=skip)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; `sources` of the dataset's file has to name it too") from None
    except pl.exceptions.NoDataError:
        raise DataError(f"{path}: the file is empty") from None
    except (pl.exceptions.PolarsError, OSError, ValueError, LookupError) as e:
        raise DataError(f"{path}: not readable as csv ({_ragged(path, separator) or _why(e)})") from None
    if cells.width > 1:
        while cells.height and all(cell is None for cell in cells.row(-1)):
            cells = cells.head(-1)
    said = {"separator": separator, "encoding": encoding}
    if not header:
        return Sheet(path, [f"column {i + 1}" for i in range(cells.width)], cells, first_line=1 + skip, said=said)
    names = [name or "" for name in cells.row(0)]
    for i, name in enumerate(names):
        if name in names[:i]:
            twice = f"columns {names.index(name) + 1} and {i + 1} are both called '{name}'"
            raise DataError(f"{path}: line {skip + 1}: {twice}")
        if not name and i > 0:
            raise DataError(f"{path}: line {skip + 1}: column {i + 1} has no name")
    return Sheet(path, names, cells.slice(1), first_line=2 + skip, said=said)


def sniffed(start: bytes) -> str:
    """The separator of the first lines of a csv; a comma where none of SEPARATORS is in them."""
    lines = start.decode("utf-8", errors="replace").splitlines()[:20]
    lines = lines[:-1] if len(lines) > 1 and len(start) >= SNIFFED_BYTES else lines
    widths = {s: [len(row) for row in csv.reader(lines, delimiter=s) if row] for s in SEPARATORS}
    return max(SEPARATORS, key=lambda s: min(widths[s], default=0) if len(set(widths[s])) == 1 else 0)


def _start(path: Path) -> bytes:
    """The first bytes. Raises DataError where they are of something that is no text."""
    with path.open("rb") as file:
        start = file.read(SNIFFED_BYTES)
    for beginning, what in NO_TEXT.items():
        if start[:64].lstrip().lower().startswith(beginning.lower()):
            raise DataError(f"{path}: the file is {what}")
    return start


def _why(error: Exception) -> str:
    """In words; of bytes that are of another encoding also what to do."""
    if isinstance(error, UnicodeError) or "utf" in str(error).lower():
        return f"{str(error).splitlines()[0]}; save it as UTF-8, or say its `encoding`, such as cp1252 or utf-16"
    return str(error).splitlines()[0]


def check_text(path: Path, content: bytes | None = None, separator: bytes = b",") -> None:
    """Raise DataError for a csv (its `content`, if given) too large or with control characters, which readers hide."""
    size = path.stat().st_size
    if size > MAX_CSV_BYTES:
        raise DataError(f"{path}: {size} bytes, and at most {MAX_CSV_BYTES} are read")
    lines, commas = 1, 0
    with path.open("rb") if content is None else io.BytesIO(content) as file:
        while chunk := file.read(CHUNK_BYTES):
            if found := CONTROL.search(chunk):
                line = lines + chunk.count(b"\n", 0, found.start())
                raise DataError(f"{path}: line {line}: a control character (byte {found[0][0]}); the file is damaged")
            commas += chunk.count(separator)
            lines += chunk.count(b"\n")
            if commas > MAX_CSV_CELLS or commas > MAX_CSV_COLUMNS * lines:
                raise DataError(
                    f"{path}: {commas} commas in {lines} lines; at most {MAX_CSV_CELLS} cells and {MAX_CSV_COLUMNS} "
                    "columns are read"
                )


def _ragged(path: Path, separator: str | None) -> str | None:
    """Where the number of separators changes, as the likely cause of an unreadable file."""
    mark = (separator or ",").encode()
    with path.open("rb") as lines:
        width = None
        for number, line in enumerate(lines, start=1):
            count = line.count(mark) + 1
            width = width or count
            if count != width:
                return f"line {number} has {count} cells, and line 1 has {width}"
    return None


def named_file(folder: Path, name: str, place: str) -> Path:
    """The file of a name that data give at `place`. Raises DataError where it would lead out of the folder."""
    try:
        return inside(folder, name)
    except FetchError as e:
        raise DataError(f"{place}: {e}") from None


def expect(sheet: Sheet, rows: int, rows_key: str, width: int, width_key: str) -> None:
    """Raise DataError where a sheet has other rows or columns than these keys of params/ say."""
    if sheet.cells.width != width:
        raise DataError(f"{sheet.path}: {sheet.cells.width} feature columns, and {width_key} says {width}")
    if len(sheet) != rows:
        raise DataError(f"{sheet.path}: {len(sheet)} rows, and {rows_key} says {rows}")


def cells_of(sheet: Sheet, name: str) -> list[Any]:
    """A column as it is, None where a cell is empty. Raises DataError where there is no such column."""
    if name not in sheet.names:
        hint = nearest(name, [n for n in sheet.names[:20] if n])
        raise DataError(f"{sheet.path}: no column '{name}'; {hint}")
    return [None if cell == "" else cell for cell in sheet.cells.to_series(sheet.names.index(name)).to_list()]


def column(sheet: Sheet, name: str) -> list[str]:
    """A column as text; 1.0 of a column of numbers as 1. Raises DataError: there is none, or a cell of it is empty."""
    values = cells_of(sheet, name)
    for i, value in enumerate(values):
        if value is None:
            raise DataError(f"{sheet.at(i)}: column '{name}' is empty")
    return [as_text(value) for value in values]


def as_text(cell: Any) -> str:
    """A cell as text; a whole number without a point."""
    return str(int(cell) if isinstance(cell, float) and cell.is_integer() else cell)


def numbers(
    sheet: Sheet,
    names: Sequence[str],
    first: int | None = 0,
    missing: Sequence[str] = (),
    remedy: str = "no dataset here is known to have gaps, so none is filled in",
) -> np.ndarray:
    """(rows, len(names)) float64 of columns, each number finite.

    `names`: what messages call the columns; as many are read, neighbours from the index `first` on, or by name where it
    is None. `missing`: cells that stand for no number and become NaN, "" an empty one. `remedy`: what to do about
    another. Raises DataError: the first cell that is empty, not a number, NaN or infinite, and how many more there are.
    """
    place = {name: i for i, name in enumerate(sheet.names)}
    at = [place[name] for name in names] if first is None else list(range(first, first + len(names)))
    text = sheet.cells[:, at]
    values = np.ascontiguousarray(text.cast(pl.Float64, strict=False).to_numpy(), dtype=np.float64)
    bad = np.argwhere(~np.isfinite(values))
    found = [text[int(i), int(j)] for i, j in bad]
    if missing:
        is_missing = np.array([("" if c is None else str(c)) in missing for c in found], bool)
        values[tuple(bad[is_missing].T)] = np.nan
        bad, found = bad[~is_missing], [c for c, ok in zip(found, is_missing, strict=True) if not ok]
    if len(bad):
        i, j = (int(k) for k in bad[0])
        what = "is empty" if found[0] in (None, "") else f"holds {found[0]!r}, which is not a finite number"
        more = f" (and {len(bad) - 1} more such cells)" if len(bad) > 1 else ""
        raise DataError(f"{sheet.at(i)}, column {at[j] + 1} ({names[j]}) {what}{more}; {remedy}")
    return values


def class_indices(sheet: Sheet, values_N: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Labels written as numbers (0.0, 1.0, ...) as int64. Raises DataError: one is no index into `classes`."""
    for i, value in enumerate(values_N.tolist()):
        if value not in range(len(classes)):
            accepted = ", ".join(f"{k} = {c}" for k, c in enumerate(classes))
            raise DataError(f"{sheet.at(i)}: label {value:g}; accepted: {accepted}")
    return values_N.astype(np.int64)
