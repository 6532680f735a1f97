"""Tables that an earlier step of the pipeline wrote, with the columns and types that it writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

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


def _fits(found: pl.DataType, kind: Any) -> bool:
    """Equal, or both vectors of float32 where only that is asked."""
    if kind is pl.Array:
        return isinstance(found, pl.Array) and found.inner == pl.Float32 and len(found.shape) == 1
    return bool(found == kind)
