"""Raw rows from outside the pipeline as a table that a trained model takes. N rows, d features of a modality."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmcontrast.config import CellConfig, Modality
from mmcontrast.config.base import known
from mmcontrast.data import streaming
from mmcontrast.data.instances import checked, in_file
from mmcontrast.data.loading import Table, as_table
from mmcontrast.data.pictures import decode
from mmcontrast.data.scaling import Scaler
from mmcontrast.data.table import described_by, schema
from mmcontrast.errors import DataError

log = logging.getLogger(__name__)

WHERE = Path("inputs")  # begins messages, where a file's name would


def table_of(given: Mapping[str, Any], cell: CellConfig, scalers: Mapping[str, Scaler], partial: bool) -> Table:
    """Raw rows as a table: checked, filled, scaled; texts stay texts. Labels are made up.

    `given`: modality -> N values: an array or a list of arrays, a frame with the features by name, a list of texts; of
    a picture its pixels (C, H, W), the bytes of its file, or a path; the path of a WAV file; a `Path` of a text's file.
    None for what a row lacks; a modality that all rows lack may be left out. `partial`: rows may lack what no row of
    the cell's dataset lacks.

    Raises DataError: it is not what the cell's dataset holds; names the modality and row.
    """
    known(WHERE, "modality", given, cell.modalities, DataError)
    values = {m: _values(m, cell.modalities[m], x, scalers.get(m)) for m, x in given.items() if x is not None}
    sizes = {m: len(x) for m, x in values.items()}
    if len(set(sizes.values())) != 1 or 0 in sizes.values():
        found = ", ".join(f"{n} rows of '{m}'" for m, n in sizes.items()) or "none"
        raise DataError(f"{WHERE}: {found}; give as many of each modality, at least one row")
    n = next(iter(sizes.values()))
    cells = {m: _cells(m, spec, values.get(m, [None] * n)) for m, spec in cell.modalities.items()}
    _refuse_lacking(cells, cell, partial)
    modalities = {}
    for m, spec in cell.modalities.items():  # pictures are decoded here, and what is multifold and lacks has no items
        lacks = not spec.multifold and (spec.optional or any(value is None for value in cells[m]))
        modalities[m] = spec.model_copy(update={"optional": lacks, "encoded": False})
    layout = schema(cell.dataset, "new", modalities, cell.classes, "none", {}, target=cell.target)
    scaled = [m for m, spec in modalities.items() if spec.kind in streaming.SCALED]
    if unfitted := [m for m in scaled if m not in scalers]:
        raise DataError(f"{WHERE}: nothing was kept with the model that scales '{unfitted[0]}'; train the cell again")
    label = 0 if cell.target == "classes" else np.zeros(len(cell.classes))
    rows: list[list[Any]] = [[str(i), label, *row] for i, row in enumerate(zip(*cells.values(), strict=True))]
    raw = streaming.batch_of(rows, streaming.unscaled(layout, scaled))
    part = streaming.with_scale(raw, layout, {m: scalers[m] for m in scaled}, WHERE)
    made = as_table(WHERE, pa.Table.from_batches([part]), described_by(WHERE, layout))
    return replace(made, modalities=cell.modalities)


def _values(m: str, spec: Modality, given: Any, scaler: Scaler | None) -> list[Any]:
    where = f"{WHERE}: modality '{m}'"
    if isinstance(given, str | bytes):
        raise DataError(f"{where}: a single {type(given).__name__}; give a list with one for each row")
    if not hasattr(given, "columns"):
        return list(given)
    if spec.kind != "vector" or spec.multifold:
        raise DataError(f"{where}: a frame; accepted for vectors alone, as its columns are their features")
    names = list(scaler.features_d) if scaler is not None else []
    if absent := [name for name in names if name not in given.columns]:
        raise DataError(f"{where}: {len(absent)} of {len(names)} features are no columns of it, such as '{absent[0]}'")
    return list((given[names] if names else given).to_numpy())


def _cells(m: str, spec: Modality, values: Sequence[Any]) -> list[Any]:
    """What would be stored of each row, before scaling; says what was cut and filled."""
    counts: Counter[str] = Counter()
    cells, plain = [], spec.model_copy(update={"encoded": False})
    for i, value in enumerate(values):
        where = f"{WHERE}: modality '{m}', row {i} (from 0)"
        try:
            cells.append(checked(_decoded(value, spec), plain, where, counts))
        except (TypeError, ValueError) as e:
            raise DataError(f"{where}: {e}") from None
    if counts["cut"]:
        told = "%d of %d sequences of '%s' have more than %d steps and were cut"
        log.warning(told, counts["cut"], len(cells), m, spec.shape[0])
    return cells


def _decoded(value: Any, spec: Modality) -> Any:
    """What a file holds in place of its path, and pixels in place of a picture's bytes. ValueError: not decodable."""
    if isinstance(value, Path) or (isinstance(value, str) and spec.kind in ("image", "sequence")):
        value = in_file(Path(value), spec)
    if isinstance(value, dict) and spec.kind == "image":  # as the library datasets has them
        value = value.get("bytes")
    if isinstance(value, bytes) and spec.kind == "image":
        try:
            return decode(value, spec.shape)
        except ValueError as e:
            raise ValueError(f"the picture cannot be decoded ({e})") from None
    return [_decoded(one, spec) for one in value] if spec.multifold and isinstance(value, list | tuple) else value


def _refuse_lacking(cells: Mapping[str, Sequence[Any]], cell: CellConfig, partial: bool) -> None:
    for i, row in enumerate(zip(*cells.values(), strict=True)):
        if all(value is None for value in row):
            raise DataError(f"{WHERE}: row {i} (from 0) has no input, every modality is missing; leave it out")
    for m, values in cells.items():
        first = next((i for i, value in enumerate(values) if value is None), None)
        if first is not None and not (partial or cell.modalities[m].optional):
            raise DataError(
                f"{WHERE}: row {first} (from 0) has no '{m}', and {cell.method} was trained where every row has one; "
                "give it, or use a method that takes modalities alone, such as comm or a pairwise one"
            )
