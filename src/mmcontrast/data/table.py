"""The Parquet layout of a prepared split: one row an instance; `id`, `label`, then a column a modality.

A vector is FixedSizeList<float32>[d] with its feature names in the field's metadata, an image FixedSizeList<uint8>
[C * H * W], a text a string. A multifold modality is a list of these. What cannot be held in memory at once is written
batch by batch with the same `schema`.

A dataset with further label tasks has a column `label_<task>` for each after `label`, and says so in its metadata. One
that repeats scenes has a column `scene` after these, the name of each row's scene, and says what that is (`scenes`).

N instances, d width of a modality. The schema's metadata says what is in the file, so that a reader needs nothing
else. Nothing in it depends on the time or the machine: equal content gives equal bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmcontrast.config import Modality
from mmcontrast.data.json_text import parse_json
from mmcontrast.data.parquet import read_parquet, write_parquet
from mmcontrast.errors import DataError

METADATA_KEY = b"mmcontrast"
FEATURES_KEY = b"features"
ITEMS = {"vector": pa.float32(), "image": pa.uint8()}
SCENE = "scene"
METADATA_FIELDS = ("dataset", "split", "modalities", "classes", "scaling")


def task_column(task: str) -> str:
    """Name of the column that holds a task's labels."""
    return f"label_{task}"


def column_type(modality: Modality) -> pa.DataType:
    """Arrow type of a modality's column.

    Raises:
        DataError: of a kind that cannot be written.
    """
    if modality.kind == "text":
        cell: pa.DataType = pa.string()
    elif modality.kind in ITEMS:
        item = pa.field("item", ITEMS[modality.kind], nullable=False)
        cell = pa.list_(item, math.prod(modality.shape))
    else:
        raise DataError(f"kind '{modality.kind}' cannot be written; accepted are {', '.join([*ITEMS, 'text'])}")
    return pa.list_(pa.field("item", cell, nullable=False)) if modality.multifold else cell


def schema(
    dataset_name: str,
    split: str,
    modalities: Mapping[str, Modality],
    classes: Sequence[str],
    scaling: str,
    feature_names: Mapping[str, Sequence[str]],
    tasks: Mapping[str, Sequence[str]] | None = None,
    scenes: str | None = None,
) -> pa.Schema:
    """Columns and metadata of one split.

    Args:
        feature_names: modality -> d names, of vectors.
        tasks: task -> classes, where there are further labels.
        scenes: what a scene is, such as a video, where rows repeat scenes.

    Raises:
        DataError: a modality is of a kind that cannot be written.
    """
    fields = [pa.field("id", pa.string(), nullable=False)]
    fields += [pa.field(name, pa.int64(), nullable=False) for name in ("label", *map(task_column, tasks or {}))]
    if scenes is not None:
        fields.append(pa.field(SCENE, pa.string(), nullable=False))
    for name, modality in modalities.items():
        try:
            kind = column_type(modality)
        except DataError as e:
            raise DataError(f"{dataset_name}: modality '{name}': {e}") from None
        names = json.dumps(list(feature_names[name]), ensure_ascii=False).encode() if name in feature_names else None
        fields.append(pa.field(name, kind, nullable=False, metadata=names and {FEATURES_KEY: names}))
    described: dict[str, Any] = {
        "dataset": dataset_name,
        "split": split,
        "modalities": {name: m.model_dump(mode="json", exclude_defaults=True) for name, m in modalities.items()},
        "classes": list(classes),
        "scaling": scaling,
    }
    if tasks:
        described["tasks"] = {task: list(names) for task, names in tasks.items()}
    if scenes is not None:
        described["scenes"] = scenes
    return pa.schema(fields, metadata={METADATA_KEY: json.dumps(described, ensure_ascii=False).encode()})


def write_split(
    path: Path,
    layout: pa.Schema,
    ids: Sequence[str],
    labels_N: np.ndarray,
    inputs: Mapping[str, np.ndarray],
    tasks: Mapping[str, np.ndarray] | None = None,
    scenes: Sequence[str] | None = None,
) -> None:
    """Write a split of vectors atomically.

    Args:
        labels_N: int64 class indices.
        inputs: modality -> (N, d) numbers, stored as float32.
        tasks: task -> (N,) int64 class indices, as `layout` lists them.
        scenes: N names, where `layout` has them.

    Raises:
        DataError: a number is too large for float32.
    """
    task_labels = {} if tasks is None else {task_column(task): values_N for task, values_N in tasks.items()}
    columns: list[pa.Array] = [pa.array(ids, pa.string()), pa.array(labels_N, pa.int64())]
    columns += [pa.array(values_N, pa.int64()) for values_N in task_labels.values()]
    columns += [] if scenes is None else [pa.array(scenes, pa.string())]
    for name, values_Nd in inputs.items():
        with np.errstate(over="ignore"):
            flat = np.ascontiguousarray(values_Nd, dtype=np.float32).reshape(-1)
        if not np.isfinite(flat).all():
            raise DataError(f"{path}: modality '{name}': a number is too large for float32 after scaling")
        columns.append(pa.FixedSizeListArray.from_arrays(pa.array(flat), type=layout.field(name).type))
    table = pa.Table.from_arrays(columns, schema=layout)
    # numbers hardly repeat: a dictionary of them costs time and saves nothing
    write_parquet(table, path, dictionary=["label", *task_labels, *([] if scenes is None else [SCENE])])


def read_split(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    """A split and its metadata.

    Raises:
        DataError: the file is missing, damaged, or not written by `mmcontrast data prepare`.
    """
    try:
        table = read_parquet(path, _again(path))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; {_again(path)}") from None
    described = _described(path, table.schema)
    _refuse_nulls(path, table)
    return table, described


def _again(path: Path) -> str:
    return f"run `mmcontrast data prepare {path.parent.name}`"


def _described(path: Path, layout: pa.Schema) -> dict[str, Any]:
    raw = (layout.metadata or {}).get(METADATA_KEY)
    if raw is None:
        raise DataError(f"{path}: not written by `mmcontrast data prepare` (no '{METADATA_KEY.decode()}' metadata)")
    try:
        described: dict[str, Any] = parse_json(raw.decode())
        modalities = {n: Modality.model_validate(m) for n, m in described["modalities"].items()}
        missing = [key for key in METADATA_FIELDS if key not in described]
    except (ValueError, KeyError, AttributeError, TypeError) as e:
        raise DataError(f"{path}: metadata not understood ({e}); {_again(path)}") from None
    if missing:
        raise DataError(f"{path}: metadata without {', '.join(missing)}; {_again(path)}")
    labelled = ["label", *map(task_column, described.get("tasks", {}))]
    texts = ["id", SCENE] if "scenes" in described else ["id"]
    expected = ["id", *labelled, *texts[1:], *modalities]
    if layout.names != expected:
        raise DataError(f"{path}: columns {layout.names}, expected {expected}; {_again(path)}")
    types = {n: column_type(m) for n, m in modalities.items()}
    types |= dict.fromkeys(texts, pa.string()) | dict.fromkeys(labelled, pa.int64())
    for name, wanted in types.items():
        kind = layout.field(name).type
        if not _same_type(kind, wanted):
            raise DataError(f"{path}: column '{name}': {kind}, expected {wanted}; {_again(path)}")
    return described


def _same_type(one: pa.DataType, other: pa.DataType) -> bool:
    """Equal but for the names and the nullability of what is nested."""
    if pa.types.is_fixed_size_list(other):
        return (
            pa.types.is_fixed_size_list(one) and one.list_size == other.list_size and one.value_type == other.value_type
        )
    if pa.types.is_list(other):
        return pa.types.is_list(one) and _same_type(one.value_type, other.value_type)
    return bool(one == other)


def _refuse_nulls(path: Path, table: pa.Table) -> None:
    for name in table.column_names:
        if any(_has_nulls(chunk) for chunk in table[name].chunks):
            raise DataError(f"{path}: column '{name}' has empty cells; {_again(path)}")


def _has_nulls(column: pa.Array) -> bool:
    nested = pa.types.is_fixed_size_list(column.type) or pa.types.is_list(column.type)
    return bool(column.null_count) or (nested and _has_nulls(column.flatten()))


def feature_names(layout: pa.Schema, modality: str) -> list[str]:
    """Names of a modality's features, in order, as stored in its field's metadata."""
    names: list[str] = json.loads(layout.field(modality).metadata[FEATURES_KEY])
    return names
