"""Files that hold a table: csv, JSON, Parquet, Feather, npz, pickles, xlsx, and folders saved by `datasets`. N rows."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic import Field

from mmcontrast.config.base import Strict, known
from mmcontrast.data.manifest import raw_path
from mmcontrast.data.prepare.readers import NO_TEXT, Sheet, as_text, cells_of, numbers, read_sheet
from mmcontrast.data.unpickle import read_pickle
from mmcontrast.errors import ConfigError, DataError, FetchError, MMContrastError, first_line

Split = Literal["train", "val", "test"]
TEXTS = (".csv", ".tsv", ".tab", ".txt")
ENCODINGS = ("utf-8", "utf-16", "cp1252")


class TableFile(Strict):
    """One table of `prepare.tables`; a path alone stands for one with everything else as it is here."""

    path: str | list[str] | dict[Split, str | list[str]] = Field(
        description="The file as `sources` has it; several with the same columns one after another; or split -> these."
    )
    header: bool = Field(
        default=True, description="csv: the first line names the columns; else they are <table>_0, ..."
    )
    skip: int = Field(default=0, ge=0, description="csv: lines at the top that are no part of the table.")
    separator: str | None = Field(
        default=None, min_length=1, max_length=1, description="csv: between cells; null = found in the first lines."
    )
    encoding: str = Field(default="utf-8", description="csv: of the letters, such as cp1252 or utf-16.")
    decimal: Literal[".", ","] = Field(default=".", description="csv: between a number's whole and its fraction.")
    missing: list[str] = Field(default=[], description='Cells that are no number, e.g. ["", NA], "" for an empty one.')
    sheet: str | None = Field(default=None, description="xlsx: name of the sheet; null = the first.")


class Table:
    """A table of one or several files, which have the same columns, or DataError is raised.

    Attributes:
        arrays: of what has more than one number per row. of_text: it is a csv.
        splits: (N,) the split that each row's file is for, or None.
        path: of the first file. said: how that was read. written: how its numbers are, `missing` and `decimal`.
    """

    def __init__(self, sheets: Mapping[str | None, list[Sheet]], options: TableFile) -> None:
        self._sheets = [sheet for of in sheets.values() for sheet in of]
        self._options, first = options, self._sheets[0]
        self.path, self.said, self.written = first.path, first.said, options.model_dump(include={"missing", "decimal"})
        for other in self._sheets[1:]:
            if (other.names, list(other.arrays)) != (first.names, list(first.arrays)):
                raise DataError(f"{other.path}: other columns than {first.path}; files of one table have the same")
        self.names, self.arrays, self.of_text = first.names, list(first.arrays), first.unit == "line"
        self.splits = [split for split, of in sheets.items() for sheet in of for _ in range(len(sheet))]

    def __len__(self) -> int:
        return len(self.splits)

    @property
    def frame(self) -> pl.DataFrame:
        """All cells, of a csv as text."""
        return pl.concat([s.cells.rename(dict(zip(s.cells.columns, s.names, strict=True))) for s in self._sheets])

    def at(self, row: int) -> str:
        """Where a row is."""
        for sheet in self._sheets:
            if row < len(sheet):
                return sheet.at(row)
            row -= len(sheet)
        raise IndexError(row)

    def cells(self, name: str) -> list[Any]:
        """(N,) of a column; None where a cell is empty."""
        return [cell for sheet in self._sheets for cell in cells_of(sheet, name)]

    def texts(self, name: str) -> list[str | None]:
        """The same as text: whole numbers without a point, lists with | between."""
        if name in self.arrays:
            return [None if cell is None else "|".join(map(str, cell)) for cell in self.array(name)]
        return [None if cell is None else as_text(cell) for cell in self.cells(name)]

    def numbers(self, names: list[str], remedy: str, may_be_empty: bool = False) -> np.ndarray:
        """(N, len(names)) float64, NaN where a cell is `missing`.

        Raises DataError: a cell is no number, or no cell of a column is one, unless it `may_be_empty`.
        """
        parts = []
        for sheet in self._sheets:
            if self._options.decimal == ",":
                changed = sheet.cells.with_columns(pl.col(pl.String).str.replace(",", ".", literal=True))
                sheet = replace(sheet, cells=changed)
            parts.append(numbers(sheet, names, None, self._options.missing, remedy))
        values = np.concatenate(parts)
        empty = np.flatnonzero(np.isnan(values).all(axis=0))
        if len(empty) and not may_be_empty:
            raise DataError(f"{self.path}: column '{names[int(empty[0])]}' has no number in any row; {remedy}")
        return values

    def array(self, name: str) -> np.ndarray:
        """(N, ...) of what holds more than one number per row, an object array where their shapes differ."""
        known(self.path, "array", name, self.arrays, DataError)
        parts = [sheet.arrays[name] for sheet in self._sheets]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def encoding_of(path: Path) -> str:
    """The first of ENCODINGS in which a csv can be read; utf-8 of all else."""
    for encoding in ENCODINGS if path.suffix.lower() in TEXTS else ():
        try:
            path.read_bytes().decode(encoding)
        except (UnicodeError, OSError):
            continue
        return encoding
    return ENCODINGS[0]


def load(name: str, file: str | TableFile, raw_dir: Path) -> Table:
    """The table that `prepare` calls `name`, of files in `raw_dir`, or from the folder that holds params/ (/, ./, ../).

    Raises DataError: a file is missing or is not what its name says, or two have different columns.
    """
    options = TableFile(path=file) if isinstance(file, str) else file
    given: dict[Any, str | list[str]] = {**options.path} if isinstance(options.path, dict) else {None: options.path}
    paths = {split: [of] if isinstance(of, str) else of for split, of in given.items()}
    try:
        return Table({s: [_sheet(name, raw_path(raw_dir, p), options) for p in of] for s, of in paths.items()}, options)
    except FetchError as e:
        raise DataError(str(e)) from None


def _sheet(table: str, path: Path, options: TableFile) -> Sheet:
    kind = path.suffix.lower()
    if kind in TEXTS:
        sheet = read_sheet(path, options.header, options.separator, options.encoding, options.skip)
        if not options.header:
            sheet = replace(sheet, names=[f"{table}_{j}" for j in range(sheet.cells.width)])
        return sheet
    if path.is_dir():
        return saved_folder(path)
    readers: dict[str, Callable[[], pl.DataFrame]] = {
        **dict.fromkeys((".json", ".jsonl"), lambda: _objects(path)),
        **dict.fromkeys((".parquet", ".pq"), lambda: pl.read_parquet(path, glob=False)),
        **dict.fromkeys((".feather", ".arrow", ".ipc"), lambda: pl.read_ipc(path)),
        ".xlsx": lambda: _excel(path, options.sheet),
    }
    arrays = {".npz": _npz, ".pkl": read_pickle, ".pickle": read_pickle}
    if kind not in (*readers, *arrays):
        kinds = ", ".join((*TEXTS, *readers, *arrays))
        raise DataError(f"{path}: a table is a file of {kinds}, or a folder saved by `datasets`, by its name's ending")
    try:
        if kind in arrays:
            return _arrays(path, arrays[kind](path))
        return _typed(path, readers[kind]())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; `sources` of the dataset's file has to name it too") from None
    except MMContrastError:
        raise
    except (Exception, pl.exceptions.PanicException) as e:  # readers fail in any way on a file that is broken
        what = next((w for b, w in NO_TEXT.items() if b != b"PK\x03\x04" and _begins(path, b)), None)
        raise DataError(f"{path}: not a whole {kind} file ({what or first_line(e)})") from None


def _objects(path: Path) -> pl.DataFrame:
    text = path.read_text(encoding="utf-8")
    try:
        rows = json.loads(text)
    except ValueError:
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    for number, row in enumerate(rows if isinstance(rows, list) else [rows], start=1):
        if not isinstance(row, dict):
            raise DataError(f"{path}: row {number}: {type(row).__name__}, expected an object of columns")
    if not rows:
        raise DataError(f"{path}: holds no row")
    return pl.DataFrame(rows, infer_schema_length=None, strict=False)


def _begins(path: Path, start: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(start)) == start


def _excel(path: Path, sheet: str | None) -> pl.DataFrame:
    try:
        found: pl.DataFrame = pl.read_excel(path, sheet_name=sheet, infer_schema_length=None)
    except ModuleNotFoundError:
        raise ConfigError(f"{path}: needs a library: `pip install fastexcel`; or save the sheet as csv") from None
    return found


def _typed(path: Path, cells: pl.DataFrame) -> Sheet:
    lists = [n for n, t in cells.schema.items() if isinstance(t, pl.List | pl.Array)]
    arrays = {name: _stacked(cells[name].to_list()) for name in lists}
    flat = cells.drop(lists)
    return Sheet(path, flat.columns, flat, 1, arrays, "row")


def _stacked(rows: list[Any]) -> np.ndarray:
    """(N, ...) of lists of equal lengths; an object array of arrays where these differ or one is missing."""
    shapes = {np.shape(row) for row in rows} if None not in rows else set()
    if len(shapes) == 1:
        return np.array(rows)
    out = np.empty(len(rows), object)
    for i, row in enumerate(rows):
        out[i] = None if row is None else np.array(row)
    return out


def _npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _arrays(path: Path, given: Any) -> Sheet:
    """One row per first index of named arrays or lists; what has one number or text per row is a column."""
    if not isinstance(given, dict) or not all(isinstance(name, str) for name in given):
        raise DataError(f"{path}: holds a {type(given).__name__}; arrays by name are accepted")
    found = {name: np.asarray(x) for name, x in given.items()}
    lengths = {name: x.shape[0] if x.ndim else 0 for name, x in found.items()}
    if len(set(lengths.values())) != 1:
        raise DataError(f"{path}: arrays of different lengths, {lengths}; the first axis is the row")
    # big-endian numbers are real life, and polars takes none
    flat = pl.DataFrame({n: x.astype(x.dtype.newbyteorder("=")) for n, x in found.items() if x.ndim == 1})
    return Sheet(path, flat.columns, flat, 1, {n: x for n, x in found.items() if x.ndim > 1}, "row")


def saved_folder(path: Path) -> Sheet:
    """What `Dataset.save_to_disk` of the library `datasets` leaves. Raises DataError: another folder."""
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        parts = []
        for file in state["_data_files"]:
            with pa.OSFile(str(path / file["filename"])) as source:
                parts.append(pa.ipc.open_stream(source).read_all())
        return _typed(path, pl.DataFrame(pa.concat_tables(parts)))
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as e:
        raise DataError(
            f"{path}: not a folder that `Dataset.save_to_disk` of the library datasets wrote ({e}); of a DatasetDict "
            "name the folder of each split"
        ) from None
