"""Prepared splits as torch tensors. The only module of `data` that imports torch.

N instances, d width of a modality's vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from mmcontrast import paths
from mmcontrast.config import CellConfig, Modality
from mmcontrast.data.splitting import refuse_unseen, stratified
from mmcontrast.data.table import read_split, task_column
from mmcontrast.errors import DataError


@dataclass(frozen=True, eq=False)
class Table:
    """One split in memory. Its tensors may share memory with Arrow: read them, do not write to them.

    Attributes:
        ids: N names.
        labels: (N,) int64 class indices.
        inputs: modality -> (N, d) float32, in the dataset's order of modalities.
        modalities: modality -> kind and shape.
        classes: names; a label is an index into them.
        tasks: task -> (N,) int64 class indices, further labels of the same instances.
        task_classes: task -> names of its classes.
    """

    ids: list[str]
    labels: Tensor
    inputs: dict[str, Tensor]
    modalities: Mapping[str, Modality]
    classes: list[str]
    tasks: dict[str, Tensor] = field(default_factory=dict)
    task_classes: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Tensor) -> Table:
        """The given rows, copied, in the given order. `rows`: int64 indices."""
        inputs = {name: x_Nd[rows] for name, x_Nd in self.inputs.items()}
        ids = [self.ids[i] for i in rows.tolist()]
        tasks = {name: labels_N[rows] for name, labels_N in self.tasks.items()}
        return Table(ids, self.labels[rows], inputs, self.modalities, self.classes, tasks, self.task_classes)


def load_split(path: Path | str) -> Table:
    """A prepared Parquet file; vectors come out of Arrow without a copy.

    Raises:
        DataError: missing, damaged, not written by `mmcontrast data prepare`, or a label that is no class.
    """
    path = Path(path)
    table, described = read_split(path)
    modalities = {name: Modality.model_validate(m) for name, m in described["modalities"].items()}
    classes, task_classes = described["classes"], described.get("tasks", {})
    labels = _labels(path, table, "label", len(classes))
    tasks = {task: _labels(path, table, task_column(task), len(names)) for task, names in task_classes.items()}
    inputs = {
        name: torch.from_dlpack(_array(table[name]).flatten()).view(table.num_rows, *modality.shape)
        for name, modality in modalities.items()
    }
    return Table(table["id"].to_pylist(), labels, inputs, modalities, classes, tasks, task_classes)


def _labels(path: Path, table: pa.Table, column: str, n_classes: int) -> Tensor:
    """A column of class indices, each of them a class."""
    labels = torch.from_dlpack(_array(table[column]))
    low, high = (int(labels.min()), int(labels.max())) if len(labels) else (0, 0)
    if low < 0 or high >= n_classes:
        raise DataError(
            f"{path}: column '{column}' goes from {low} to {high}, and there are {n_classes} classes; "
            f"run `mmcontrast data prepare {path.parent.name}`"
        )
    return labels


def _array(column: pa.ChunkedArray) -> pa.Array:
    """The column in one piece; only a file of several row groups (none of ours) costs a copy."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def holdout(labels: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Hold a stratified share of the training rows out for validation.

    Args:
        labels: (N,) int64. share: in [0, 1). seed: the run's.

    Returns:
        Sorted row indices (train, val). Every class keeps at least one row in train.
    """
    parts = stratified(labels.numpy(), {"train": 1 - share, "val": share}, seed)
    return torch.from_numpy(parts["train"]), torch.from_numpy(parts["val"])


def load_dataset(cell: CellConfig, root: Path | str, seed: int) -> dict[str, Table]:
    """train, val and test of a cell's dataset.

    Where the dataset has no validation split, `cell.selection.holdout` of train is held out by `seed`; with a holdout
    of 0, val has no rows. Scaling was fitted on all of train, held-out rows included; test never takes part.

    Args:
        root: the checkout. seed: of the run; unused where the dataset has a validation split.

    Raises:
        DataError: a file is missing or damaged, was prepared for other params, shares an id with another split, or
            holds a class that train does not.
    """
    tables = {split: _load_checked(cell, Path(root), split) for split in paths.SPLITS}
    _refuse_shared_ids(cell.dataset, tables)
    if len(tables["val"]) == 0 and cell.selection.holdout > 0:
        train = tables["train"]
        kept, held = holdout(train.labels, cell.selection.holdout, seed)
        if len(held) == 0:
            raise DataError(
                f"{cell.dataset}: selection.holdout {cell.selection.holdout:g} of {len(train)} training rows leaves "
                "none to validate on; raise it, or set it to 0 and do without a selected epoch"
            )
        tables["train"], tables["val"] = train.take(kept), train.take(held)
    others: dict[str, np.ndarray] = {split: tables[split].labels.numpy() for split in ("val", "test")}
    refuse_unseen(cell.dataset, cell.classes, tables["train"].labels.numpy(), others)
    return tables


def _load_checked(cell: CellConfig, root: Path, split: str) -> Table:
    path = root / paths.prepared(cell.dataset, split)
    table = load_split(path)
    again = f"run `mmcontrast data prepare {cell.dataset}`"
    says = f"and params/datasets/{cell.dataset}.yaml says"
    # order counts: methods pair the modalities in the order of the dataset
    if list(table.modalities.items()) != list(cell.modalities.items()):
        found, wanted = _shapes(table.modalities), _shapes(cell.modalities)
        raise DataError(f"{path}: prepared with modalities {found}, {says} {wanted}; {again}")
    if table.classes != cell.classes:
        raise DataError(f"{path}: prepared with classes {table.classes}, {says} {cell.classes}; {again}")
    if table.task_classes != cell.tasks:
        raise DataError(f"{path}: prepared with tasks {table.task_classes}, {says} {cell.tasks}; {again}")
    return table


def _shapes(modalities: Mapping[str, Modality]) -> str:
    return ", ".join(f"{name} {m.kind} {m.shape}" for name, m in modalities.items())


def _refuse_shared_ids(name: str, tables: Mapping[str, Table]) -> None:
    """Splits prepared at different times, under different split seeds, would leak test rows into train."""
    seen: dict[str, str] = {}
    for split, table in tables.items():
        for identity in table.ids:
            if identity in seen:
                raise DataError(
                    f"{name}: id '{identity}' is in {seen[identity]} and in {split}; the splits do not belong "
                    f"together; run `mmcontrast data prepare {name}`"
                )
            seen[identity] = split
