"""Stored predictions of a cell, checked and as arrays.

Shapes: N cases of a split, E evaluated epochs, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmcontrast.config import CellConfig
from mmcontrast.errors import DataError
from mmcontrast.evaluation.frames import read_frame

COLUMNS = {
    "seed": pl.Int64,
    "epoch": pl.Int64,
    "split": pl.String,
    "id": pl.String,
    "label": pl.Int64,
    "probs": pl.Array,
}
SPLITS = ("val", "test")
SUM_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Predictions:
    """One seed's predictions of one split at every evaluated epoch.

    Attributes:
        ids: N case names, sorted. labels: (N,) class indices.
        probs: (E, N, C) class probabilities, in the order of `epochs`.
        epochs: the E evaluated epochs, ascending, 0-based.
    """

    ids: list[str]
    labels: NDArray[np.int64]
    probs: NDArray[np.float32]
    epochs: list[int]


def read_predictions(path: Path, cell: CellConfig) -> dict[tuple[int, str], Predictions]:
    """Every (seed, split) of a cell's predictions.parquet.

    The split "val" is absent where the cell holds nothing out and its dataset publishes none; "test" never is.

    Raises:
        DataError: the file is missing or not what this cell's training writes; names the cell, seed and split.
    """
    try:
        frame = read_frame(path, COLUMNS, f"train {cell.name} again")
    except FileNotFoundError:
        raise DataError(f"{path}: no predictions; run `mmcontrast finetune {cell.name}` first") from None
    _check_seeds(frame, path, cell)
    out: dict[tuple[int, str], Predictions] = {}
    for (seed, split), part in frame.sort("seed", "split", "epoch", "id").group_by(
        ["seed", "split"], maintain_order=True
    ):
        if split not in SPLITS:
            raise DataError(f"{path}: {cell.name}: split '{split}'; accepted are {', '.join(SPLITS)}")
        out[int(str(seed)), str(split)] = _one(part, f"{path}: {cell.name}, seed {seed}, {split}", cell)
    _check_alike(out, path, cell)
    return out


def _check_seeds(frame: pl.DataFrame, path: Path, cell: CellConfig) -> None:
    found = set(frame["seed"].unique().to_list())
    if absent := sorted(set(cell.seeds) - found):
        raise DataError(
            f"{path}: {cell.name}: no predictions of seed {', '.join(map(str, absent))}; train the cell again"
        )
    if extra := sorted(found - set(cell.seeds)):
        raise DataError(
            f"{path}: {cell.name}: predictions of seed {', '.join(map(str, extra))}, "
            f"which the suite does not list; train the cell again"
        )


def _one(part: pl.DataFrame, where: str, cell: CellConfig) -> Predictions:
    epochs = part["epoch"].unique().sort().to_list()
    n = len(part) // len(epochs)
    ids = np.array(part["id"].to_list(), dtype=object)
    labels = part["label"].to_numpy()
    if len(ids) != len(epochs) * n or (ids.reshape(len(epochs), n) != ids[:n]).any() or len(set(ids[:n])) != n:
        raise DataError(f"{where}: not every case has exactly one row at every epoch of {epochs[0]}..{epochs[-1]}")
    if (labels.reshape(len(epochs), n) != labels[:n]).any():
        raise DataError(f"{where}: the label of a case changes between epochs")
    if labels.min() < 0 or labels.max() >= len(cell.classes):
        raise DataError(
            f"{where}: labels from {labels.min()} to {labels.max()}; accepted are 0 to {len(cell.classes) - 1}"
        )
    stage = cell.finetune
    if stage is not None and epochs[-1] != stage.epochs - 1:
        raise DataError(f"{where}: the last evaluated epoch is {epochs[-1]}, and training ends at {stage.epochs - 1}")
    return Predictions(list(ids[:n]), labels[:n], _probabilities(part, epochs, n, where, cell), epochs)


def _probabilities(part: pl.DataFrame, epochs: list[int], n: int, where: str, cell: CellConfig) -> NDArray[np.float32]:
    column = part["probs"]
    width = column.dtype.shape[0] if isinstance(column.dtype, pl.Array) else None
    if width != len(cell.classes):
        raise DataError(f"{where}: probs is {column.dtype}, expected {len(cell.classes)} float32, one a class")
    probs = column.to_numpy().reshape(len(epochs), n, len(cell.classes))
    bad = ~np.isfinite(probs).all(-1)
    if not bad.any():
        bad = (probs < 0).any(-1) | (np.abs(probs.sum(-1) - 1) > SUM_TOLERANCE)
    if bad.any():
        e, i = np.argwhere(bad)[0]
        raise DataError(
            f"{where}: epoch {epochs[e]}, case {part['id'][int(i)]}: {probs[e, i].tolist()} are not probabilities "
            f"({int(bad.sum())} such rows); the training diverged or the file is damaged"
        )
    return probs


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
