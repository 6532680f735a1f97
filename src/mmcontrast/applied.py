"""A trained model on files: rows of tables in, a table of their embeddings or predictions out.

A table is csv or Parquet; the column `id` names its rows, and several tables are joined by it. A vector has its
features in columns of their names, in a table of the modality's name or as <modality>/<feature> where two modalities
have a feature of one name. Every other modality has the column of its name: a text; the path of a picture, from the
table's folder; a sequence, or the observations of a multifold modality, as a list, which in csv is JSON.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mmcontrast.config import Modality
from mmcontrast.data.files import replacing
from mmcontrast.errors import DataError
from mmcontrast.trained import TrainedModel

ID = "id"
READERS = {".csv": pl.read_csv, ".parquet": pl.read_parquet}


def embed_files(model: TrainedModel, files: Sequence[Path], out: Path, readout: str = "") -> int:
    """Write `id` and `embedding`; of a cell scored by retrieval a row per observation. Returns the number of rows.

    Raises:
        DataError: a file cannot be read or lacks a column, or its rows are not what the model takes.
    """
    ids, inputs = read_rows(model, files)
    if model.cell.scored_by != "retrieval" or readout:
        return _write(pl.DataFrame({ID: ids, "embedding": model.embed(inputs, readout)}), out)
    found = model.observations(inputs)
    parts = [
        pl.DataFrame({ID: [ids[i] for i in row_P], "modality": [m] * len(row_P), "embedding": z_PD})
        for m, (z_PD, row_P) in found.items()
        if len(row_P)
    ]
    return _write(pl.concat(parts), out)


def predict_files(model: TrainedModel, files: Sequence[Path], out: Path) -> int:
    """Write `id`, `predicted` and the probability of each class; of other targets a column per label or quantity.

    Raises:
        DataError: as `embed_files`; or nothing classifies.
    """
    ids, inputs = read_rows(model, files)
    cell = model.cell
    values_NC = model.predict(inputs) if cell.target == "regression" else model.predict_proba(inputs)
    predicted = {"predicted": np.array(cell.classes)[values_NC.argmax(1)]} if cell.target == "classes" else {}
    return _write(pl.DataFrame({ID: ids} | predicted | dict(zip(cell.classes, values_NC.T, strict=True))), out)


def read_rows(model: TrainedModel, files: Sequence[Path]) -> tuple[list[str], dict[str, Any]]:
    """N ids, and the raw inputs of these rows.

    Raises:
        DataError: a file cannot be read, has an id twice or lacks it, or no column is an input.
    """
    modalities = model.cell.modalities
    frame = reduce(_joined, [_read(file, modalities) for file in files])
    inputs: dict[str, Any] = {}
    shared = Counter(f for m in modalities for f in model.features(m))
    for m, spec in modalities.items():
        names = {f: f"{m}/{f}" if f"{m}/{f}" in frame.columns or shared[f] > 1 else f for f in model.features(m)}
        if any(name in frame.columns for name in names.values()):
            there = {name: f for f, name in names.items() if name in frame.columns}
            inputs[m] = frame.select(pl.col(name).alias(f) for name, f in there.items())
        elif m in frame.columns:
            inputs[m] = [_value(cell, spec, f"column '{m}', row {i}") for i, cell in enumerate(frame[m])]
    if not inputs:
        wanted = [next(iter(model.features(m)), m) for m in modalities]
        raise DataError(f"{files[0]}: no column is an input of the model; expected columns such as {', '.join(wanted)}")
    return frame[ID].to_list(), inputs


def _read(file: Path, modalities: dict[str, Modality]) -> pl.DataFrame:
    if file.suffix not in READERS:
        raise DataError(f"{file}: '{file.suffix}' is not read here; give {' or '.join(READERS)}")
    try:
        frame: pl.DataFrame = READERS[file.suffix](file)
    except FileNotFoundError:
        raise DataError(f"{file}: no such file") from None
    except (pl.exceptions.PolarsError, OSError) as e:
        raise DataError(f"{file}: not a table that can be read ({str(e).splitlines()[0]})") from None
    if ID not in frame.columns:
        frame = frame.with_columns(pl.int_range(pl.len()).alias(ID))
    frame = frame.with_columns(pl.col(ID).cast(pl.String))
    if (frame[ID].is_duplicated() | frame[ID].is_null()).any():
        raise DataError(f"{file}: column '{ID}' has a name twice, or an empty one; a row has its own")
    for m, spec in modalities.items():
        if spec.kind == "image" and m in frame.columns and frame[m].dtype == pl.String:
            frame = frame.with_columns(pl.col(m).map_elements(lambda cell: _beside(cell, file), pl.String))
    own = file.stem in modalities and modalities[file.stem].kind == "vector"
    return frame.rename({c: f"{file.stem}/{c}" for c in frame.columns if c != ID and own})


def _beside(cell: str, table: Path) -> str:
    """A picture's path, or the JSON list of several, from where the table lies."""
    if cell.startswith("["):
        return json.dumps([str(table.parent / path) for path in json.loads(cell)])
    return str(table.parent / cell)


def _joined(one: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    return one.join(other, on=ID, how="full", coalesce=True, maintain_order="left_right")


def _value(cell: Any, spec: Modality, where: str) -> Any:
    if isinstance(cell, str) and (spec.multifold or spec.kind in ("sequence", "vector")):
        try:
            return json.loads(cell)
        except ValueError as e:
            raise DataError(f"{where} (from 0): not a list in JSON ({e})") from None
    return cell.to_list() if isinstance(cell, pl.Series) else cell


def _write(frame: pl.DataFrame, out: Path) -> int:
    if out.suffix not in READERS:
        raise DataError(f"{out}: '{out.suffix}' is not written here; give {' or '.join(READERS)}")
    with replacing(out) as temporary:
        if out.suffix == ".parquet":
            frame.write_parquet(temporary)
        else:
            lists = [c for c, kind in frame.schema.items() if kind.is_nested()]
            frame.with_columns(
                pl.col(c).map_elements(lambda z: json.dumps(z.to_list()), pl.String) for c in lists
            ).write_csv(temporary)
    return len(frame)
