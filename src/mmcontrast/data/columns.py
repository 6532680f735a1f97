"""Values of one modality, an instance each, as an Arrow column, and back to the numbers in it.

n instances of a batch; a value is (d,) numbers, (C, H, W) uint8, (T, d) numbers of a sequence, the bytes of a picture,
or a text; a list of these where the modality is multifold; None where the instance lacks it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

Numbers = Callable[[np.ndarray], np.ndarray]


def column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """A column of n cells.

    Args:
        kind: as `table.column_type` or `table.label_type` gives it, or with other numbers in it.
    """
    if pa.types.is_fixed_size_list(kind):
        width, item = kind.list_size, kind.value_type.to_pandas_dtype()
        flat = np.zeros((len(values), width), item)
        for row, value in enumerate(values):
            flat[row] = 0 if value is None else np.reshape(value, -1)
        return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), type=kind, mask=_missing(values))
    if pa.types.is_list(kind):
        inner = column([one for several in values if several is not None for one in several], kind.value_type)
        ends = np.cumsum([0, *(0 if v is None else len(v) for v in values)], dtype=np.int32)
        return pa.ListArray.from_arrays(pa.array(ends), inner, type=kind, mask=_missing(values))
    return pa.array(values, kind)


def _missing(values: Sequence[Any]) -> pa.Array | None:
    """(n,) True where there is nothing; None where that is nowhere."""
    mask = [v is None for v in values]
    return pa.array(mask, pa.bool_()) if any(mask) else None


def spans(cells: pa.Array) -> list[tuple[int, int]]:
    """Where each list of a column starts and ends in what `flatten` gives."""
    ends = cells.offsets.to_numpy() - cells.offsets[0].as_py()
    return list(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True))


def numbers(cells: pa.Array) -> np.ndarray:
    """(P, d) of all vectors in a column, or steps of its sequences, those that are not there left out."""
    while not pa.types.is_fixed_size_list(cells.type):
        cells = cells.flatten()
    return cells.flatten().to_numpy(zero_copy_only=False).reshape(-1, cells.type.list_size)


def with_numbers(cells: pa.Array, change: Numbers, kind: pa.DataType) -> pa.Array:
    """The column with each (P, d) of numbers changed, and of another type of numbers.

    Args:
        cells: not sliced. change: (P, d) -> (P, d). kind: of the result.
    """
    mask = cells.is_null() if cells.null_count else None
    if pa.types.is_fixed_size_list(cells.type):
        values_Pd = cells.values.to_numpy(zero_copy_only=False).reshape(-1, cells.type.list_size)
        changed = np.ascontiguousarray(change(values_Pd), kind.value_type.to_pandas_dtype())
        return pa.FixedSizeListArray.from_arrays(pa.array(changed.reshape(-1)), type=kind, mask=mask)
    inner = with_numbers(cells.values, change, kind.value_type)
    return pa.ListArray.from_arrays(cells.offsets, inner, type=kind, mask=mask)
