"""Parquet files whose pages carry checksums, read with bounded memory.

A damaged page is an error and never other numbers. What a file's footer says is believed only as far as the reader of
the table checks it: names, types, shapes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmcontrast.data.files import replacing
from mmcontrast.errors import DataError

MAX_TABLE_BYTES = 16 * 1024**3
MAX_BATCH_BYTES = 256 * 1024**2
MAX_BATCH_ROWS = 65_536
WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}


def write_parquet(table: pa.Table, path: Path, dictionary: Sequence[str] | bool = True) -> None:
    """Write a table atomically, each page with its checksum.

    Args:
        dictionary: columns that are stored by dictionary; True = all.
    """
    columns = dictionary if isinstance(dictionary, bool) else list(dictionary)
    with replacing(path) as temp:
        pq.write_table(table, temp, compression="zstd", use_dictionary=columns, write_page_checksum=True)


def read_parquet(path: Path, remedy: str) -> pa.Table:
    """A whole table.

    Args:
        remedy: what to do about a damaged file, as the end of a sentence.

    Raises:
        DataError: damaged, not Parquet, or more than MAX_TABLE_BYTES in memory. FileNotFoundError: it is missing.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            bound = _bound(file.metadata)
            table = file.read() if bound <= MAX_TABLE_BYTES else _piecewise(file, path)
        # offsets that point nowhere would be followed by whoever reads the values
        table.validate(full=True)
        return table
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError, MemoryError, UnicodeDecodeError, OverflowError) as e:
        reason = (str(e) or type(e).__name__).splitlines()[0]
        raise DataError(f"{path}: damaged, or not a Parquet file ({reason}); {remedy}") from None


def _columns(metadata: pq.FileMetaData) -> list[pq.ColumnChunkMetaData]:
    groups = [metadata.row_group(g) for g in range(metadata.num_row_groups)]
    return [group.column(c) for group in groups for c in range(group.num_columns)]


def _bound(metadata: pq.FileMetaData) -> int:
    """Most bytes that the table can take: by a dictionary, a few bytes in the file may stand for all of a column.

    A text's length is not known beforehand; none is longer than its column is in the file.
    """
    return sum(
        column.num_values * WIDTHS.get(column.physical_type, max(column.total_uncompressed_size, 1))
        for column in _columns(metadata)
    )


def _piecewise(file: pq.ParquetFile, path: Path) -> pa.Table:
    """The table by batches that fit, given up as soon as they are too much together."""
    widest = max(
        math.ceil(column.num_values / max(1, file.metadata.row_group(0).num_rows))
        * WIDTHS.get(column.physical_type, max(column.total_uncompressed_size, 1))
        for column in _columns(file.metadata)
    )
    rows = min(MAX_BATCH_ROWS, max(1, MAX_BATCH_BYTES // max(1, widest)))
    batches, total = [], 0
    for batch in file.iter_batches(rows):
        batches.append(batch)
        total += batch.nbytes
        if total > MAX_TABLE_BYTES:
            raise ValueError(f"more than {MAX_TABLE_BYTES} bytes in memory, which is the most that is read")
    return pa.Table.from_batches(batches, file.schema_arrow)
