"""Tables that an earlier step of the pipeline wrote, with the columns and types that it writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from mmcontrast.config import CellConfig
from mmcontrast.data.parquet import read_parquet
from mmcontrast.errors import DataError

# a column may be a vector of any width, which its reader checks
NAMED = {pl.Array: "float32 of one width"}


def read_frame(path: Path, columns: Mapping[str, Any], remedy: str) -> pl.DataFrame:
    """A Parquet file as a frame.

    Args:
        columns: name -> polars type, or None where any is accepted. Further columns are let through.
        remedy: what to do about a wrong file, as the end of a sentence.

    Raises:
        DataError: damaged, or a column is missing, of another type or has empty cells. FileNotFoundError: no file.
    """
    table = read_parquet(path, remedy)
    try:
        frame = pl.DataFrame(pl.from_arrow(table.replace_schema_metadata()))
    except (pl.exceptions.PolarsError, ValueError, TypeError) as e:
        raise DataError(f"{path}: not a table that is written here ({str(e).splitlines()[0]}); {remedy}") from None
    if missing := [c for c in columns if c not in frame.columns]:
        raise DataError(f"{path}: no column {', '.join(missing)}; expected {', '.join(columns)}; {remedy}")
    for name, kind in columns.items():
        if kind is not None and not _fits(frame[name].dtype, kind):
            raise DataError(f"{path}: column {name} is {frame[name].dtype}, expected {NAMED.get(kind, kind)}; {remedy}")
        if frame[name].null_count():
            raise DataError(f"{path}: column {name} has rows without a value; {remedy}")
    return frame


def read_outputs(path: Path, columns: Mapping[str, Any], cell: CellConfig) -> pl.DataFrame:
    """What the training of a cell has left, of all its seeds; `columns` as of `read_frame`.

    Raises:
        DataError: as `read_frame`, or the file is missing, or is of other seeds than the cell.
    """
    try:
        frame = read_frame(path, columns, f"train {cell.name} again")
    except FileNotFoundError:
        raise DataError(f"{path}: no {path.stem}; run `mmcontrast {cell.last_stage} {cell.name}` first") from None
    found = frame["seed"].unique().sort().to_list()
    if found != sorted(cell.seeds):
        raise DataError(
            f"{path}: {cell.name}: holds seeds {found}, and the suite lists {sorted(cell.seeds)}; train the cell again"
        )
    return frame


def by_epoch(part: pl.DataFrame, keys: Sequence[str], where: str) -> tuple[list[int], pl.DataFrame]:
    """The E epochs of the rows of a split, and N rows with the keys, which every epoch has alike.

    Args:
        part: E * N rows, sorted by epoch.

    Raises:
        DataError: an epoch has other rows.
    """
    epochs = part["epoch"].unique().sort().to_list()
    n, rest = divmod(len(part), len(epochs))
    rows = part.select(keys)
    if rest or any(not rows[i * n : (i + 1) * n].equals(rows[:n]) for i in range(1, len(epochs))):
        raise DataError(
            f"{where}: not the same {', '.join(keys)} at every epoch of {epochs[0]}..{epochs[-1]}; train the cell again"
        )
    return epochs, rows[:n]


def _fits(found: pl.DataType, kind: Any) -> bool:
    """Equal, or both vectors of float32 where only that is asked."""
    if kind is pl.Array:
        return isinstance(found, pl.Array) and found.inner == pl.Float32 and len(found.shape) == 1
    return bool(found == kind)
