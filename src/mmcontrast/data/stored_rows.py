"""Ids and keys of the rows of a prepared split, whatever its modalities are, without holding it in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmcontrast.data.columns import numbers, spans
from mmcontrast.data.parquet import stored_batches


def stored_rows(path: Path, modalities: Sequence[str]) -> tuple[list[str], list[bytes]]:
    """N ids, and N keys that are equal where every cell of every modality is.

    Args:
        path: a file in the layout of `data.table`, just written here.
    """
    ids: list[str] = []
    keys: list[bytes] = []
    for batch in stored_batches(path, ["id", *modalities]):
        ids += batch["id"].to_pylist()
        cells = [_cells(batch[name]) for name in modalities]
        keys += [hashlib.blake2b(b"".join(row), digest_size=16).digest() for row in zip(*cells, strict=True)]
    return ids, keys


def _cells(column: pa.Array) -> list[bytes]:
    """A digest of each cell, so that joined cells can be read in one way alone."""
    if column.null_count:
        found = iter(_cells(column.drop_null()))
        return [next(found) if there else NOTHING for there in column.is_valid().to_pylist()]
    if pa.types.is_fixed_size_list(column.type):
        rows = numbers(column)
        # adding 0 makes one of the two zeros
        return [_digest(row.tobytes()) for row in (rows if rows.dtype == np.uint8 else rows + 0)]
    if pa.types.is_list(column.type):
        if pa.types.is_fixed_size_list(column.type.value_type):
            rows = numbers(column)
            return [_digest(rows[start:end].tobytes()) for start, end in spans(column)]
        inner = _cells(column.flatten())
        return [_digest(b"".join(inner[start:end])) for start, end in spans(column)]
    return [_digest(x.encode() if isinstance(x, str) else x) for x in column.to_pylist()]


def _digest(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=16).digest()


NOTHING = hashlib.blake2b(b"nothing", digest_size=16, person=b"null").digest()
