"""Prepared splits as tensors, or as columns that give them by batch (large or decoded). N instances, d width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from mmcontrast import paths
from mmcontrast.config import CellConfig, Modality
from mmcontrast.data.files import again, check_prepared
from mmcontrast.data.inputs import Column, Decoders, EncodedImages, FixedRows, Texts, View, numbers, present, sequences
from mmcontrast.data.parquet import mapped_copy, open_map, read_outline
from mmcontrast.data.splitting import check_apart, refuse_unseen, stratified
from mmcontrast.data.table import SCENE, described_by, noted, read_split, refuse_nulls, task_column, weight_column
from mmcontrast.errors import DataError

# bytes of a split's columns from which on it is read from the disk row by row; the tensors are the same either way
MAPPED_FROM = 512 * 1024**2
# rows of a column in which a method looks for what it cannot learn from
SAMPLE_ROWS = 256


@dataclass(frozen=True, eq=False)
class Observations:
    """A multifold modality: `flat` is a (O, ...) tensor or column, or O texts, of all instances one after another;
    instance i has the observations offsets[i] to offsets[i + 1], (N + 1,) int64.
    """

    flat: Tensor | Column | list[str]
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
        """Those of the given instances, in the given order, without a copy of tensors. `rows`: int64 indices."""
        spans = [torch.arange(int(self.offsets[i]), int(self.offsets[i + 1])) for i in rows.tolist()]
        index = torch.cat(spans) if spans else torch.zeros(0, dtype=torch.int64)
        flat = [self.flat[i] for i in index.tolist()] if isinstance(self.flat, list) else View(self.flat, index)
        return Observations(flat, torch.cat([torch.zeros(1, dtype=torch.int64), self.counts[rows].cumsum(0)]))


@dataclass(frozen=True, eq=False)
class Table:
    """One split. Its tensors may share memory with Arrow and with other tables: read them, do not write to them.

    Attributes:
        labels: (N,) int64 class indices; of a multilabel target (N, C) float32 of 0 and 1, of a regression (N, R)
            float32 in the units of the data.
        inputs: modality -> in the dataset's order of modalities: (N, d) float32 vectors, (N, C, H, W) uint8 images, or
            a column of N rows; single texts are a column of texts until `data.tokens` has made numbers of them.
            Multifold modalities are in `observations` instead.
        classes: names; a label is an index into them, or has a number for each.
        tasks: task -> labels of the same instances, as `labels`.
        task_classes: task -> names of its classes, or {kind, names} of labels that are no classes.
        scenes: (N,) int64 scene of each row, of this split alone, where the dataset repeats scenes.
        scene_kind: what a scene is, such as a video. target: what labels are: classes, multilabel or regression.
        present: modality that an instance may lack -> (N,) bool, whether it has it. An absent input is zeros, of a
            sequence NaN alone.
        decoders: processes that decode its pictures ahead; None = it is done when a batch is made.
        weights: task ("" = the main target) -> (N,) float64, what each row counts as a case; {} where all count alike.
    """

    ids: list[str]
    labels: Tensor
    inputs: dict[str, Tensor | Column]
    modalities: Mapping[str, Modality]
    classes: list[str]
    tasks: dict[str, Tensor] = field(default_factory=dict)
    task_classes: dict[str, Any] = field(default_factory=dict)
    observations: dict[str, Observations] = field(default_factory=dict)
    scenes: Tensor | None = None
    scene_kind: str | None = None
    present: dict[str, Tensor] = field(default_factory=dict)
    decoders: Decoders | None = None
    target: str = "classes"
    weights: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def refuse_texts(self) -> None:
        """Raise DataError where there are texts that nothing has made numbers of."""
        flat = {**self.inputs, **{name: of.flat for name, of in self.observations.items()}}
        for name, x in flat.items():
            if isinstance(getattr(x, "base", x), list | Texts):
                raise DataError(f"modality '{name}' holds texts; they are made into word pieces first")

    def take(self, rows: Tensor) -> Table:
        """The given rows in the given order, without a copy of the inputs. `rows`: int64 indices."""
        return replace(
            self,
            ids=[self.ids[i] for i in rows.tolist()],
            labels=self.labels[rows],
            inputs={name: View(x, rows) for name, x in self.inputs.items()},
            tasks={name: labels_N[rows] for name, labels_N in self.tasks.items()},
            observations={name: of.of(rows) for name, of in self.observations.items()},
            scenes=None if self.scenes is None else self.scenes[rows],
            present={name: has_N[rows] for name, has_N in self.present.items()},
            weights={task: weights_N[rows] for task, weights_N in self.weights.items()},
        )

    def sample(self) -> dict[str, Tensor]:
        """modality -> all rows of a tensor, and SAMPLE_ROWS of what is on the disk, or to be decoded or padded."""
        some = torch.linspace(0, max(0, len(self) - 1), min(SAMPLE_ROWS, len(self))).long()
        out = {}
        for name, x in self.inputs.items():
            whole = isinstance(x.base if isinstance(x, View) else x, Tensor)
            out[name] = x[slice(None)] if whole else x[some]
        return out


def load_split(path: Path | str, copies: Path | None = None) -> Table:
    """A prepared Parquet file.

    A small one's numbers come out of Arrow without a copy. From MAPPED_FROM bytes on, and where pictures are to be
    decoded, it is read row by row from an uncompressed copy in the folder `copies` (None = all is read into memory). In
    memory whatever its size: ids, labels and multifold modalities.

    Raises DataError: missing, damaged, not written by `mmcontrast data prepare`, a number not finite, or as `as_table`.
    """
    path = Path(path)
    return as_table(path, *_opened(path, copies))


def as_table(path: Path, table: pa.Table, described: Mapping[str, Any], mapped: Path | None = None) -> Table:
    """A split whose cells have been checked. `described`: its metadata. `mapped`: from this file; None = in memory.

    Raises DataError: a label is not accepted, or a sequence has more steps than the dataset's limit.
    """
    modalities = {name: Modality.model_validate(m) for name, m in described["modalities"].items()}
    classes, task_classes = described["classes"], described.get("tasks", {})
    labels = _labels(path, table, "label", len(classes))
    widths = {task: len(of["names"] if isinstance(of, dict) else of) for task, of in task_classes.items()}
    tasks = {task: _labels(path, table, task_column(task), width) for task, width in widths.items()}
    inputs: dict[str, Tensor | Column] = {}
    observations: dict[str, Observations] = {}
    for name, modality in modalities.items():
        if modality.multifold:
            column = _array(table[name])
            # offsets of a slice need not start at 0, and `flatten` gives the slice alone
            offsets = torch.from_numpy(column.offsets.to_numpy().astype(np.int64))
            flat = pa.chunked_array([column.flatten()])
            whole = flat.to_pylist() if modality.kind == "text" else _column(path, name, modality, flat, None)
            observations[name] = Observations(whole, offsets - offsets[0])
        else:
            inputs[name] = _column(path, name, modality, table[name], mapped)
    kind, scenes = described.get("scenes"), None
    if kind is not None:  # a number for each name, by its place among the sorted names
        _, number_N = np.unique(np.array(table[SCENE].to_pylist(), dtype=np.str_), return_inverse=True)
        scenes = torch.from_numpy(number_N.astype(np.int64))
    return Table(
        table["id"].to_pylist(),
        labels,
        inputs,
        modalities,
        classes,
        tasks,
        task_classes,
        observations,
        scenes=scenes,
        scene_kind=kind,
        present={name: present(table[name]) for name, modality in modalities.items() if modality.optional},
        target=described.get("target", "classes"),
        weights=_weights(path, table, ["", *task_classes]) if described.get("case_weights") else {},
    )


def _opened(path: Path, copies: Path | None) -> tuple[pa.Table, dict[str, Any], Path | None]:
    """The table with its metadata, in memory or mapped from the file that is named; each cell is checked."""
    if copies is not None and path.exists():
        outline = read_outline(path, again(path))
        described = described_by(path, outline.schema)
        decoded = any(modality.get("encoded", False) for modality in described["modalities"].values())

        def check(piece: pa.Table) -> None:
            refuse_nulls(path, piece, described)
            _refuse_not_finite(path, piece, described)

        if decoded or outline.size >= MAPPED_FROM:
            mapped = mapped_copy(path, outline, copies, check, again(path))
            return open_map(mapped), described, mapped
    table, described = read_split(path)
    _refuse_not_finite(path, table, described)
    return table, described, None


def _refuse_not_finite(path: Path, table: pa.Table, described: Mapping[str, Any]) -> None:
    for name in described["modalities"]:
        for chunk in table[name].chunks:
            while pa.types.is_nested(chunk.type):
                chunk = chunk.flatten()
            if pa.types.is_floating(chunk.type) and not np.isfinite(chunk.to_numpy()).all():
                raise DataError(f"{path}: modality '{name}' holds a number that is not finite; {again(path)}")


def _column(path: Path, name: str, modality: Modality, column: pa.ChunkedArray, mapped: Path | None) -> Tensor | Column:
    """The rows of a modality; a tensor of what is in memory and of a fixed size."""
    if modality.encoded:
        return EncodedImages(column, name, modality.shape, path, mapped)
    if modality.kind == "text":
        return Texts(column)
    if modality.kind == "sequence":
        found = sequences(column)
        wrong_N = ((found.lengths == 0) & present(column)) | (found.lengths > modality.shape[0])
        if wrong_N.any():
            row = int(wrong_N.nonzero()[0])
            raise DataError(
                f"{path}: modality '{name}', row {row} (from 0): a sequence of {int(found.lengths[row])} steps; "
                f"accepted are 1 to {modality.shape[0]}; {again(path)}"
            )
        return found
    if mapped is not None or column.null_count:
        rows = FixedRows(column, modality.shape)
        return rows if mapped is not None else rows[:]
    array = _array(column)
    return torch.from_dlpack(array.flatten()).view(len(array), *modality.shape)


def _weights(path: Path, table: pa.Table, tasks: Sequence[str]) -> dict[str, Tensor]:
    weights = {task: torch.from_dlpack(_array(table[weight_column(task)])) for task in tasks}
    for task, weights_N in weights.items():
        if not ((weights_N >= 0) & weights_N.isfinite()).all():
            raise DataError(f"{path}: column '{weight_column(task)}' must hold numbers of at least 0; {again(path)}")
    return weights


def _labels(path: Path, table: pa.Table, column: str, width: int) -> Tensor:
    """A column of class indices, each of them a class, or (N, width) float32 of several labels or quantities."""
    array = _array(table[column])
    if pa.types.is_fixed_size_list(array.type):
        values_NC = numbers(array)
        several = values_NC.dtype == np.uint8
        if values_NC.shape[1] != width or not (values_NC <= 1 if several else np.isfinite(values_NC)).all():
            found = "0 or 1 for each of" if several else "a finite number for each of"
            raise DataError(f"{path}: column '{column}' must hold {found} {width} labels; {again(path)}")
        return torch.from_numpy(values_NC.astype(np.float32))
    labels = torch.from_dlpack(array)
    low, high = (int(labels.min()), int(labels.max())) if len(labels) else (0, 0)
    if low < 0 or high >= width:
        raise DataError(
            f"{path}: column '{column}' goes from {low} to {high}, and there are {width} classes; {again(path)}"
        )
    return labels


def _array(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    joined = column.combine_chunks()
    return joined.chunk(0) if isinstance(joined, pa.ChunkedArray) else joined


def holdout(labels: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Sorted row indices (train, val): a `share` in [0, 1) is held out, stratified; train keeps a row of every class.

    `labels`: (N,) int64, or (N, C) of several labels or quantities, by which nothing is stratified.
    """
    strata_N = labels.numpy() if labels.ndim == 1 else np.zeros(len(labels), np.int64)
    parts = stratified(strata_N, {"train": 1 - share, "val": share}, seed)
    return torch.from_numpy(parts["train"]), torch.from_numpy(parts["val"])


def load_whole(cell: CellConfig, root: Path | str) -> dict[str, Table]:
    """train, val and test of a cell's dataset below `root`, and `probe` where probes are fitted on another train split.

    Raises DataError: a file is missing, damaged or changed, was prepared for other params, shares an id with another
    split, or holds a class that train does not.
    """
    tables = {split: _load_checked(cell, Path(root), cell.dataset, split) for split in paths.SPLITS}
    check_apart(cell.dataset, "id", {split: table.ids for split, table in tables.items()})
    fitted = tables["train"]
    if cell.probe_from is not None:
        own = cell.probe_from == cell.dataset
        fitted = tables["probe"] = fitted if own else _load_checked(cell, Path(root), cell.probe_from, "train")
        check_apart(cell.dataset, "id", {split: tables[split].ids for split in ("probe", "val", "test")})
    others: dict[str, np.ndarray] = {split: tables[split].labels.numpy() for split in ("val", "test")}
    if fitted.labels.ndim == 1:
        refuse_unseen(cell.dataset, cell.classes, fitted.labels.numpy(), others)
    # last, as what is wrong is said better by every other check
    for part in cell.data:
        check_prepared(Path(root) / paths.prepared(*part))
    return tables


def held_out(cell: CellConfig, whole: Mapping[str, Table], seed: int) -> dict[str, Table]:
    """The splits of a seed, which share the rows of `whole`, of `load_whole`.

    Where the dataset has no validation split, `cell.selection.holdout` of train is held out by `seed`; with a holdout
    of 0, val has no rows. Scaling was fitted on all of train, held-out rows included; test never takes part. Where
    there is a probe split, it is that one which is held out from, and train stays whole: a dataset that names itself in
    `probe_from` is pretrained on all of its train, and probed with a part of it.

    Raises DataError: the holdout leaves nothing to validate on.
    """
    tables = dict(whole)
    fitted = "probe" if "probe" in tables else "train"
    if len(tables["val"]) == 0 and cell.selection.holdout > 0:
        train = tables[fitted]
        kept, held = holdout(train.labels, cell.selection.holdout, seed)
        if len(held) == 0:
            raise DataError(
                f"{cell.dataset}: selection.holdout {cell.selection.holdout:g} of {len(train)} training rows leaves "
                "none to validate on; raise it, or set it to 0 and do without a selected epoch"
            )
        tables[fitted], tables["val"] = train.take(kept), train.take(held)
    return tables


def load_dataset(cell: CellConfig, root: Path | str, seed: int) -> dict[str, Table]:
    """The splits of one seed; see `load_whole` and `held_out`."""
    return held_out(cell, load_whole(cell, root), seed)


def _load_checked(cell: CellConfig, root: Path, dataset: str, split: str) -> Table:
    path = root / paths.prepared(dataset, split)
    table = load_split(path, root / paths.mapped(dataset, split))
    prepared: dict[str, tuple[Any, Any]] = {
        # order counts: methods pair the modalities in the order of the dataset
        "modalities": (list(table.modalities.items()), list(cell.modalities.items())),
        "classes": (table.classes, cell.classes),
        "target": (table.target, cell.target),
        "tasks": (table.task_classes, {task: noted(given) for task, given in cell.tasks.items()}),
        "case_weights": (bool(table.weights), cell.case_weights),
        "scenes": (table.scene_kind, cell.scenes),
    }
    for key, (found, wanted) in prepared.items():
        if found != wanted:
            told = [_shapes(dict(of)) if key == "modalities" else of for of in (found, wanted)]
            raise DataError(
                f"{path}: prepared with {key}: {told[0]}, and params/datasets/{dataset}.yaml says {key}: {told[1]}; "
                f"{again(path)}"
            )
    return table


def _shapes(modalities: Mapping[str, Modality]) -> str:
    return ", ".join(f"{name} {m.kind} {m.shape}" for name, m in modalities.items())
