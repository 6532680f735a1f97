"""Stored predictions of a cell, checked and as arrays.

Shapes: N cases of a split, E evaluated epochs, C classes, labels or quantities.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmcontrast.config import CellConfig
from mmcontrast.errors import DataError
from mmcontrast.evaluation.frames import by_epoch, read_outputs
from mmcontrast.evaluation.labels import label_type, labels_of, not_predictions, output_column

COLUMNS = {"seed": pl.Int64, "epoch": pl.Int64, "split": pl.String, "id": pl.String}
SPLITS = ("val", "test")


@dataclass(frozen=True)
class Predictions:
    """One seed's predictions of one split at every evaluated epoch.

    Attributes:
        ids: N case names, sorted. labels: (N,) class indices, (N, C) zeros and ones, or (N, C) numbers.
        probs: (E, N, C) probabilities, or the numbers that were predicted, in the order of `epochs`.
        epochs: the E evaluated epochs, ascending, 0-based.
        weights: (N,) what each case counts in a score; None = all count alike.
    """

    ids: list[str]
    labels: NDArray[Any]
    probs: NDArray[np.float32]
    epochs: list[int]
    weights: NDArray[np.float64] | None = None


def read_predictions(path: Path, cell: CellConfig) -> dict[tuple[int, str], Predictions]:
    """Every (seed, split) of a cell's predictions.parquet.

    The split "val" is absent where the cell holds nothing out and its dataset publishes none; "test" never is.

    Raises:
        DataError: the file is missing or not what this cell's training writes; names the cell, seed and split.
    """
    target = cell.targets[""]
    columns = COLUMNS | {"label": label_type(target), output_column(target.kind): pl.Array}
    frame = read_outputs(path, columns, cell)
    out: dict[tuple[int, str], Predictions] = {}
    for (seed, split), part in frame.sort("seed", "split", "epoch", "id").group_by(
        ["seed", "split"], maintain_order=True
    ):
        if split not in SPLITS:
            raise DataError(f"{path}: {cell.name}: split '{split}'; accepted are {', '.join(SPLITS)}")
        out[int(str(seed)), str(split)] = _one(part, f"{path}: {cell.name}, seed {seed}, {split}", cell)
    _check_alike(out, path, cell)
    return out


def _one(part: pl.DataFrame, where: str, cell: CellConfig) -> Predictions:
    epochs, cases = by_epoch(part, ["id", "label"], where)
    labels, ids = labels_of(cases, "label", cell.targets[""], where), cases["id"].to_list()
    if len(set(ids)) != len(ids):
        raise DataError(f"{where}: a case has more than one row at every epoch; train the cell again")
    stage = cell.finetune
    if stage is not None and epochs[-1] != stage.epochs - 1:
        raise DataError(f"{where}: the last evaluated epoch is {epochs[-1]}, and training ends at {stage.epochs - 1}")
    return Predictions(ids, labels, _outputs(part, epochs, len(ids), where, cell), epochs)


def _outputs(part: pl.DataFrame, epochs: list[int], n: int, where: str, cell: CellConfig) -> NDArray[np.float32]:
    kind, wanted = cell.target, len(cell.classes)
    column = part[output_column(kind)]
    width = column.dtype.shape[0] if isinstance(column.dtype, pl.Array) else None
    if width != wanted:
        a_name = {"classes": "a class", "multilabel": "a label", "regression": "a quantity"}[kind]
        raise DataError(f"{where}: {column.name} is {column.dtype}, expected {wanted} float32, one {a_name}")
    outputs = column.to_numpy().reshape(len(epochs), n, wanted)
    bad = not_predictions(kind, outputs)
    if bad.any():
        e, i = np.argwhere(bad)[0]
        what = "finite numbers" if kind == "regression" else "probabilities"
        raise DataError(
            f"{where}: epoch {epochs[e]}, case {part['id'][int(i)]}: {outputs[e, i].tolist()} are not {what} "
            f"({int(bad.sum())} such rows); the training diverged or the file is damaged"
        )
    return outputs


def _check_alike(out: dict[tuple[int, str], Predictions], path: Path, cell: CellConfig) -> None:
    first = cell.seeds[0]
    if (first, "test") not in out:
        raise DataError(f"{path}: {cell.name}, seed {first}: no rows of the test split")
    reference = out[first, "test"]
    has_val = (first, "val") in out
    if cell.selection.holdout > 0 and not has_val:
        raise DataError(
            f"{path}: {cell.name}, seed {first}: no rows of the val split, though selection.holdout is "
            f"{cell.selection.holdout:g}; train the cell again"
        )
    for seed in cell.seeds:
        test = out.get((seed, "test"))
        if test is None:
            raise DataError(f"{path}: {cell.name}, seed {seed}: no rows of the test split")
        if test.ids != reference.ids or (test.labels != reference.labels).any():
            raise DataError(f"{path}: {cell.name}, seed {seed}: other test instances or labels than seed {first}")
        if ((seed, "val") in out) != has_val:
            raise DataError(f"{path}: {cell.name}: seed {seed} and seed {first} do not both have a val split")
        for split in SPLITS[not has_val :]:
            if out[seed, split].epochs != reference.epochs:
                raise DataError(
                    f"{path}: {cell.name}, seed {seed}, {split}: evaluated at other epochs than the test split "
                    f"of seed {first}; train the cell again"
                )
