"""Stored embeddings of a cell, checked and as arrays.

Shapes: N cases of a split, D width of the embedding.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmcontrast.config import CellConfig
from mmcontrast.data.table import task_column, weight_column
from mmcontrast.errors import DataError
from mmcontrast.evaluation.frames import read_outputs
from mmcontrast.evaluation.labels import label_type, labels_of
from mmcontrast.evaluation.readouts import OWN, column, readouts_of

COLUMNS = {"seed": pl.Int64, "split": pl.String, "id": pl.String, "embedding": pl.Array}
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Embeddings:
    """One seed's embeddings of one split.

    Attributes:
        ids: N case names, sorted. z: (N, D) finite float32.
        labels: (N,) class indices, (N, C) zeros and ones, or (N, C) numbers.
        tasks: task -> labels of the dataset's further tasks.
        readouts: further embeddings that are scored, by name; see `evaluation.readouts`.
        weights: task -> (N,) what each case counts, of the main labels under the empty name; {} = all count alike.
    """

    ids: list[str]
    labels: NDArray[Any]
    z: NDArray[np.float32]
    tasks: dict[str, NDArray[Any]] = field(default_factory=dict)
    readouts: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    weights: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def cases(self, task: str) -> Embeddings:
        """The cases of a task, with its labels and, where there are weights, these alone, of mean 1, without a name."""
        own = replace(self, labels=self.labels_of(task))
        if not self.weights:
            return own
        rows = np.flatnonzero(weights_N := self.weights[task])
        return Embeddings(
            [self.ids[i] for i in rows],
            own.labels[rows],
            self.z[rows],
            readouts={name: z_ND[rows] for name, z_ND in self.readouts.items()},
            weights={"": weights_N[rows] / weights_N[rows].mean()},
        )

    def of(self, readout: str) -> NDArray[np.float32]:
        """(N, D) of a readout."""
        return self.readouts[readout] if readout else self.z

    def labels_of(self, task: str) -> NDArray[Any]:
        """Those of a task, or under the empty name the dataset's own."""
        return self.tasks[task] if task else self.labels


def read_embeddings(path: Path, cell: CellConfig) -> dict[tuple[int, str], Embeddings]:
    """Every (seed, split) of a cell's embeddings.parquet; train, val and test are all there.

    Raises:
        DataError: the file is missing or not what this cell's training writes; names the cell, seed and split.
    """
    columns = COLUMNS | {_column(task): label_type(target) for task, target in cell.targets.items()}
    columns |= dict.fromkeys(map(weight_column, cell.targets), pl.Float64) if cell.case_weights else {}
    frame = read_outputs(path, columns, cell)
    for readout in map(column, readouts_of(frame.columns)):
        if not isinstance(frame[readout].dtype, pl.Array):
            raise DataError(f"{path}: {cell.name}: {readout} is {frame[readout].dtype}, expected float32 of one width")
    out = {
        (seed, split): _one(frame.filter(seed=seed, split=split), f"{path}: {cell.name}, seed {seed}, {split}", cell)
        for seed in cell.seeds
        for split in SPLITS
    }
    _check_alike(out, path, cell)
    return out


def _one(part: pl.DataFrame, where: str, cell: CellConfig) -> Embeddings:
    if part.is_empty():
        remedy = "; a probe needs one: set selection.holdout above 0" if where.endswith(", val") else ""
        raise DataError(f"{where}: no rows of this split{remedy}")
    part = part.sort("id")
    ids = part["id"].to_list()
    readouts = {readout: part[column(readout)].to_numpy() for readout in readouts_of(part.columns)}
    if len(set(ids)) != len(ids):
        raise DataError(f"{where}: a case has more than one row")
    tasks = {task: labels_of(part, _column(task), target, where) for task, target in cell.targets.items()}
    for readout, z_ND in readouts.items():
        bad_N = ~np.isfinite(z_ND).all(-1)
        if bad_N.any():
            raise DataError(
                f"{where}: the {column(readout)} of case {ids[int(bad_N.argmax())]} is not finite ({int(bad_N.sum())} "
                "such rows); the training diverged or the file is damaged"
            )
    weights = {t: part[weight_column(t)].to_numpy() for t in cell.targets} if cell.case_weights else {}
    return Embeddings(ids, tasks.pop(""), readouts.pop(OWN), tasks, readouts, weights)


def _column(task: str) -> str:
    return task_column(task) if task else "label"


def _check_alike(out: dict[tuple[int, str], Embeddings], path: Path, cell: CellConfig) -> None:
    """All seeds are scored on the same test instances, and none of them has been trained on."""
    first = out[cell.seeds[0], "test"]
    for seed in cell.seeds:
        test = out[seed, "test"]
        if test.ids != first.ids or (test.labels != first.labels).any():
            raise DataError(
                f"{path}: {cell.name}, seed {seed}: other test instances or labels than seed {cell.seeds[0]}"
            )
        seen: set[str] = set()
        for split in SPLITS:
            if both := seen.intersection(out[seed, split].ids):
                raise DataError(
                    f"{path}: {cell.name}, seed {seed}: case {min(both)} is in {split} and in an earlier split; "
                    "prepare the data again"
                )
            seen.update(out[seed, split].ids)
