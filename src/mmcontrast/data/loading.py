"""Prepared splits as torch tensors. The only module of `data` that imports torch.

N instances, d width of a modality's vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from mmcontrast import paths
from mmcontrast.config import CellConfig, Modality
from mmcontrast.data.checksums import check_prepared
from mmcontrast.data.splitting import refuse_unseen, stratified
from mmcontrast.data.table import SCENE, read_split, task_column
from mmcontrast.errors import DataError


@dataclass(frozen=True, eq=False)
class Observations:
    """A multifold modality: each instance has one or more observations.

    Attributes:
        flat: of all instances, one after another: (O, ...) tensor, or O texts.
        offsets: (N + 1,) int64; instance i has the observations offsets[i] to offsets[i + 1].
    """

    flat: Tensor | list[str]
    offsets: Tensor

    def __len__(self) -> int:
        """Number of observations, O."""
        return len(self.flat)

    @property
    def counts(self) -> Tensor:
        """(N,) observations of each instance."""
        return self.offsets.diff()

    @property
    def instance(self) -> Tensor:
        """(O,) the instance, 0 .. N - 1, that each observation is of."""
        return torch.repeat_interleave(torch.arange(len(self.offsets) - 1), self.counts)

    def of(self, rows: Tensor) -> Observations:
        """Those of the given instances, in the given order. `rows`: int64 indices."""
        spans = [torch.arange(int(self.offsets[i]), int(self.offsets[i + 1])) for i in rows.tolist()]
        index = torch.cat(spans) if spans else torch.zeros(0, dtype=torch.int64)
        flat = [self.flat[i] for i in index.tolist()] if isinstance(self.flat, list) else self.flat[index]
        return Observations(flat, torch.cat([torch.zeros(1, dtype=torch.int64), self.counts[rows].cumsum(0)]))


@dataclass(frozen=True, eq=False)
class Table:
    """One split in memory. Its tensors may share memory with Arrow: read them, do not write to them.

    Attributes:
        ids: N names.
        labels: (N,) int64 class indices.
        inputs: modality -> (N, d) float32 vectors or (N, C, H, W) uint8 images, in the dataset's order of modalities.
            Multifold modalities are in `observations` instead.
        modalities: modality -> kind and shape.
        classes: names; a label is an index into them.
        tasks: task -> (N,) int64 class indices, further labels of the same instances.
        task_classes: task -> names of its classes.
        observations: multifold modality -> its observations.
        scenes: (N,) int64 scene of each row, where the dataset repeats scenes; of this split alone.
        scene_kind: what a scene is, such as a video.
    """

    ids: list[str]
    labels: Tensor
    inputs: dict[str, Tensor]
    modalities: Mapping[str, Modality]
    classes: list[str]
    tasks: dict[str, Tensor] = field(default_factory=dict)
    task_classes: dict[str, list[str]] = field(default_factory=dict)
    observations: dict[str, Observations] = field(default_factory=dict)
    scenes: Tensor | None = None
    scene_kind: str | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Tensor) -> Table:
        """The given rows, copied, in the given order. `rows`: int64 indices."""
        inputs = {name: x_Nd[rows] for name, x_Nd in self.inputs.items()}
        ids = [self.ids[i] for i in rows.tolist()]
        tasks = {name: labels_N[rows] for name, labels_N in self.tasks.items()}
        observations = {name: of.of(rows) for name, of in self.observations.items()}
        return replace(
            self,
            ids=ids,
            labels=self.labels[rows],
            inputs=inputs,
            tasks=tasks,
            observations=observations,
            scenes=None if self.scenes is None else self.scenes[rows],
        )


def load_split(path: Path | str) -> Table:
    """A prepared Parquet file; numbers come out of Arrow without a copy.

    Raises:
        DataError: missing, damaged, not written by `mmcontrast data prepare`, a label that is no class, a number that
            is not finite, or a text modality with one observation an instance.
    """
    path = Path(path)
    table, described = read_split(path)
    modalities = {name: Modality.model_validate(m) for name, m in described["modalities"].items()}
    classes, task_classes = described["classes"], described.get("tasks", {})
    labels = _labels(path, table, "label", len(classes))
    tasks = {task: _labels(path, table, task_column(task), len(names)) for task, names in task_classes.items()}
    inputs: dict[str, Tensor] = {}
    observations: dict[str, Observations] = {}
    for name, modality in modalities.items():
        column = _array(table[name])
        if modality.multifold:
            # offsets of a slice need not start at 0, and `flatten` gives the slice alone
            offsets = torch.from_numpy(column.offsets.to_numpy().astype(np.int64))
            observations[name] = Observations(_values(column.flatten(), modality), offsets - offsets[0])
            continue
        values = _values(column, modality)
        if isinstance(values, list):
            raise DataError(f"{path}: modality '{name}': texts are read where `multifold: true` alone")
        if not torch.isfinite(values).all():
            raise DataError(
                f"{path}: modality '{name}' holds a number that is not finite; run `mmcontrast data prepare "
                f"{path.parent.name}`"
            )
        inputs[name] = values
    kind = described.get("scenes")
    scenes = None if kind is None else _scenes(table[SCENE])
    ids = table["id"].to_pylist()
    return Table(ids, labels, inputs, modalities, classes, tasks, task_classes, observations, scenes, kind)


def _scenes(column: pa.ChunkedArray) -> Tensor:
    """(n,) a number for each name, by its place among the sorted names."""
    _, number_n = np.unique(np.array(column.to_pylist(), dtype=np.str_), return_inverse=True)
    return torch.from_numpy(number_n.astype(np.int64))


def _values(column: pa.Array, modality: Modality) -> Tensor | list[str]:
    """(n, *shape) of a fixed-size column, or n texts."""
    if modality.kind == "text":
        texts: list[str] = column.to_pylist()
        return texts
    return torch.from_dlpack(column.flatten()).view(len(column), *modality.shape)


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
    if column.num_chunks == 1:
        return column.chunk(0)
    joined = column.combine_chunks()
    return joined.chunk(0) if isinstance(joined, pa.ChunkedArray) else joined


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
    """train, val and test of a cell's dataset, and `probe` where probes are fitted on another dataset's train split.

    Where the dataset has no validation split, `cell.selection.holdout` of train is held out by `seed`; with a holdout
    of 0, val has no rows. Scaling was fitted on all of train, held-out rows included; test never takes part. Where
    there is a probe split, it is that one which is held out from, and train stays whole: a dataset that names itself in
    `probe_from` is pretrained on all of its train, and probed with a part of it.

    Args:
        root: the checkout. seed: of the run; unused where the dataset has a validation split.

    Raises:
        DataError: a file is missing, damaged or changed, was prepared for other params, shares an id with another
            split, or holds a class that train does not.
    """
    tables = {split: _load_checked(cell, Path(root), cell.dataset, split) for split in paths.SPLITS}
    _refuse_shared_ids(cell.dataset, tables)
    fitted = "train"
    if cell.probe_from is not None:
        fitted, own = "probe", cell.probe_from == cell.dataset
        tables["probe"] = tables["train"] if own else _load_checked(cell, Path(root), cell.probe_from, "train")
    if len(tables["val"]) == 0 and cell.selection.holdout > 0:
        whole = tables[fitted]
        kept, held = holdout(whole.labels, cell.selection.holdout, seed)
        if len(held) == 0:
            raise DataError(
                f"{cell.dataset}: selection.holdout {cell.selection.holdout:g} of {len(whole)} training rows leaves "
                "none to validate on; raise it, or set it to 0 and do without a selected epoch"
            )
        tables[fitted], tables["val"] = whole.take(kept), whole.take(held)
    others: dict[str, np.ndarray] = {split: tables[split].labels.numpy() for split in ("val", "test")}
    refuse_unseen(cell.dataset, cell.classes, tables[fitted].labels.numpy(), others)
    if cell.probe_from is not None:
        _refuse_shared_ids(cell.dataset, {split: tables[split] for split in ("probe", "val", "test")})
        check_prepared(Path(root) / paths.prepared(cell.probe_from, "train"))
    # last, as what is wrong is said better by every other check
    for split in paths.SPLITS:
        check_prepared(Path(root) / paths.prepared(cell.dataset, split))
    return tables


def _load_checked(cell: CellConfig, root: Path, dataset: str, split: str) -> Table:
    path = root / paths.prepared(dataset, split)
    table = load_split(path)
    again = f"run `mmcontrast data prepare {dataset}`"
    says = f"and params/datasets/{dataset}.yaml says"
    # order counts: methods pair the modalities in the order of the dataset
    if list(table.modalities.items()) != list(cell.modalities.items()):
        found, wanted = _shapes(table.modalities), _shapes(cell.modalities)
        raise DataError(f"{path}: prepared with modalities {found}, {says} {wanted}; {again}")
    if table.classes != cell.classes:
        raise DataError(f"{path}: prepared with classes {table.classes}, {says} {cell.classes}; {again}")
    if table.task_classes != cell.tasks:
        raise DataError(f"{path}: prepared with tasks {table.task_classes}, {says} {cell.tasks}; {again}")
    if table.scene_kind != cell.scenes:
        raise DataError(f"{path}: prepared with scenes: {table.scene_kind}, {says} scenes: {cell.scenes}; {again}")
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
