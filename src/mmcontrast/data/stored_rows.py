"""Ids and keys of the rows of a prepared split, whatever its modalities are, without holding it in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS_AT_ONCE = 256


def stored_rows(path: Path, modalities: Sequence[str]) -> tuple[list[str], list[bytes]]:
    """N ids, and N keys that are equal where every cell of every modality is.

    Args:
        path: a file in the layout of `data.table`, just written here.
    """
    ids: list[str] = []
    keys: list[bytes] = []
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=["id", *modalities]):
            ids += batch["id"].to_pylist()
            cells = [_cells(batch[name]) for name in modalities]
            keys += [hashlib.blake2b(b"".join(row), digest_size=16).digest() for row in zip(*cells, strict=True)]
    return ids, keys


def _cells(column: pa.Array) -> list[bytes]:
    """A digest of each cell, so that joined cells can be read in one way alone."""
    if pa.types.is_fixed_size_list(column.type):
        width = column.type.list_size
        values = np.ascontiguousarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(len(column), width)
        return [_digest(row.tobytes()) for row in values]
    if pa.types.is_list(column.type):
        inner, ends = _cells(column.flatten()), np.diff(column.offsets.to_numpy()).cumsum()
        return [_digest(b"".join(inner[start:end])) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    return [_digest(text.encode()) for text in column.to_pylist()]


def _digest(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=16).digest()
