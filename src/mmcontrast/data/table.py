"""The Parquet layout of a prepared split: one row per instance; `id`, `label`, then a column per modality.

A vector is FixedSizeList<float32>[d] with its feature names in the field's metadata, an image FixedSizeList<uint8>
[C * H * W] or, where it is encoded, the bytes of a JPEG or PNG file; a sequence is a list of FixedSizeList<float32>[d],
one per step, and a text a string. A multifold modality is a list of these. A cell is null where the instance lacks an
optional modality, and nowhere else. What cannot be held in memory at once is written batch by batch with the same
`schema` (see `data.streaming`).

A label is an int64 class index; of a multilabel target it is FixedSizeList<uint8>[C], 1 where the instance has the
label, and of a regression FixedSizeList<float32>[R] in the units of the data. A dataset with further label tasks has a
column `label_<task>` for each after `label`, and says so in its metadata. One with `case_weights` has float64 columns
`weight` and `weight_<task>` after these: what a row counts as a case of the target, 0 = not at all. One that repeats
scenes then has a column `scene`, the name of each row's scene, and says what that is (`scenes`).

N instances, d width of a modality. The schema's metadata says what is in the file, so that a reader needs nothing
else. Nothing in it depends on the time or the machine: equal content gives equal bytes.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmcontrast.config import Modality
from mmcontrast.config.metrics import Target
from mmcontrast.data.files import again, parse_json
from mmcontrast.data.parquet import read_parquet
from mmcontrast.errors import DataError, nearest

METADATA_KEY = b"mmcontrast"
FEATURES_KEY = b"features"
FLOAT, BYTE = pa.float32(), pa.uint8()
SCENE = "scene"
METADATA_FIELDS = ("dataset", "split", "modalities", "classes", "scaling")


def task_column(task: str) -> str:
    """Name of the column that holds a task's labels."""
    return f"label_{task}"


def weight_column(task: str) -> str:
    """Name of the column that holds the rows' weights as cases of a task; of the main target, whose name is empty."""
    return f"weight_{task}" if task else "weight"


def column_type(modality: Modality) -> pa.DataType:
    """Arrow type of a modality's column."""
    if modality.kind == "text":
        cell: pa.DataType = pa.string()
    elif modality.encoded:
        cell = pa.binary()
    elif modality.kind == "sequence":
        cell = _list(_cells(FLOAT, modality.shape[1]))
    else:
        cell = _cells(FLOAT if modality.kind == "vector" else BYTE, math.prod(modality.shape))
    return _list(cell) if modality.multifold else cell


def label_type(target: str, names: Sequence[str]) -> pa.DataType:
    """Arrow type of a label's column; `names` of classes, labels or quantities. ValueError: there is no such target."""
    items = {"classes": None, "multilabel": BYTE, "regression": FLOAT}
    if target not in items:
        raise ValueError(f"target '{target}'; {nearest(str(target), items)}")
    item = items[target]
    return pa.int64() if item is None else _cells(item, len(names))


def noted(task: Sequence[str] | Target) -> Any:
    """A task as the metadata have it: the names of its classes, or {kind, names} of another target."""
    if isinstance(task, Target):
        return task.names if task.kind == "classes" else {"kind": task.kind, "names": task.names}
    return list(task)


def _noted_type(noted: Any) -> pa.DataType:
    return label_type(noted["kind"], noted["names"]) if isinstance(noted, dict) else pa.int64()


def _list(cell: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("item", cell, nullable=False))


def _cells(item: pa.DataType, width: int) -> pa.DataType:
    return pa.list_(pa.field("item", item, nullable=False), width)


def schema(
    dataset_name: str,
    split: str,
    modalities: Mapping[str, Modality],
    classes: Sequence[str],
    scaling: str,
    feature_names: Mapping[str, Sequence[str]],
    tasks: Mapping[str, Sequence[str] | Target] | None = None,
    scenes: str | None = None,
    target: str = "classes",
    case_weights: bool = False,
) -> pa.Schema:
    """Columns and metadata of one split.

    `classes`: of the target, or the labels of a multilabel one, or the quantities of a regression. `feature_names`:
    modality -> d names, of vectors. `tasks`: further label -> its classes or its target. `scenes`: what a scene is,
    such as a video, where rows repeat scenes. `case_weights`: rows have a weight for each target.
    """
    fields = [pa.field("id", pa.string(), nullable=False), pa.field("label", label_type(target, classes), False)]
    described_tasks = {task: noted(given) for task, given in (tasks or {}).items()}
    fields += [
        pa.field(task_column(task), _noted_type(given), nullable=False) for task, given in described_tasks.items()
    ]
    if case_weights:
        fields += [pa.field(weight_column(task), pa.float64(), nullable=False) for task in ("", *described_tasks)]
    if scenes is not None:
        fields.append(pa.field(SCENE, pa.string(), nullable=False))
    for name, modality in modalities.items():
        names = json.dumps(list(feature_names[name]), ensure_ascii=False).encode() if name in feature_names else None
        features = names and {FEATURES_KEY: names}
        fields.append(pa.field(name, column_type(modality), nullable=modality.optional, metadata=features))
    described: dict[str, Any] = {
        "dataset": dataset_name,
        "split": split,
        "modalities": {name: m.model_dump(mode="json", exclude_defaults=True) for name, m in modalities.items()},
        "classes": list(classes),
        "scaling": scaling,
    }
    if described_tasks:
        described["tasks"] = described_tasks
    if scenes is not None:
        described["scenes"] = scenes
    if target != "classes":
        described["target"] = target
    if case_weights:
        described["case_weights"] = True
    return pa.schema(fields, metadata={METADATA_KEY: json.dumps(described, ensure_ascii=False).encode()})


def read_split(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    """A split and its metadata. DataError: missing, damaged, or not written by `mmcontrast data prepare`."""
    try:
        table = read_parquet(path, again(path))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; {again(path)}") from None
    described = described_by(path, table.schema)
    refuse_nulls(path, table, described)
    return table, described


def described_by(path: Path, layout: pa.Schema) -> dict[str, Any]:
    """The metadata of a split's schema. DataError: not written by `mmcontrast data prepare`, or not of this layout."""
    raw = (layout.metadata or {}).get(METADATA_KEY)
    if raw is None:
        raise DataError(f"{path}: not written by `mmcontrast data prepare` (no '{METADATA_KEY.decode()}' metadata)")
    try:
        described: dict[str, Any] = parse_json(raw.decode())
        modalities = {n: Modality.model_validate(m) for n, m in described["modalities"].items()}
        missing = [key for key in METADATA_FIELDS if key not in described]
        tasks = described.get("tasks", {})
        labels = {"label": label_type(described.get("target", "classes"), described.get("classes", []))}
        labels |= {task_column(task): _noted_type(noted) for task, noted in tasks.items()}
        if described.get("case_weights"):
            labels |= {weight_column(task): pa.float64() for task in ("", *tasks)}
    except (ValueError, KeyError, AttributeError, TypeError) as e:
        raise DataError(f"{path}: metadata not understood ({e}); {again(path)}") from None
    if missing:
        raise DataError(f"{path}: metadata without {', '.join(missing)}; {again(path)}")
    texts = ["id", SCENE] if "scenes" in described else ["id"]
    expected = ["id", *labels, *texts[1:], *modalities]
    if layout.names != expected:
        raise DataError(f"{path}: columns {layout.names}, expected {expected}; {again(path)}")
    types = {n: column_type(m) for n, m in modalities.items()}
    types |= dict.fromkeys(texts, pa.string()) | labels
    for name, wanted in types.items():
        kind = layout.field(name).type
        if not _same_type(kind, wanted):
            raise DataError(f"{path}: column '{name}': {kind}, expected {wanted}; {again(path)}")
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


def refuse_nulls(path: Path, table: pa.Table, described: Mapping[str, Any]) -> None:
    """Raise DataError for a cell that is empty where no instance may lack it. `described`: see `described_by`."""
    optional = {name for name, modality in described["modalities"].items() if modality.get("optional", False)}
    for name in table.column_names:
        for chunk in table[name].chunks:
            if _has_nulls(chunk.drop_null() if name in optional else chunk):
                raise DataError(f"{path}: column '{name}' has empty cells; {again(path)}")


def _has_nulls(column: pa.Array) -> bool:
    nested = pa.types.is_fixed_size_list(column.type) or pa.types.is_list(column.type)
    return bool(column.null_count) or (nested and _has_nulls(column.flatten()))


def column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """A column of n cells. `kind`: of `column_type` or `label_type`, or with other numbers in it."""
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


def with_numbers(cells: pa.Array, change: Callable[[np.ndarray], np.ndarray], kind: pa.DataType) -> pa.Array:
    """The column, not sliced, with each (P, d) of numbers changed to another (P, d), of which `kind` is the type."""
    mask = cells.is_null() if cells.null_count else None
    if pa.types.is_fixed_size_list(cells.type):
        values_Pd = cells.values.to_numpy(zero_copy_only=False).reshape(-1, cells.type.list_size)
        changed = np.ascontiguousarray(change(values_Pd), kind.value_type.to_pandas_dtype())
        return pa.FixedSizeListArray.from_arrays(pa.array(changed.reshape(-1)), type=kind, mask=mask)
    inner = with_numbers(cells.values, change, kind.value_type)
    return pa.ListArray.from_arrays(cells.offsets, inner, type=kind, mask=mask)
