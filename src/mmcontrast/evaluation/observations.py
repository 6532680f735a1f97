"""Stored embeddings of a retrieval cell's observations, checked and as arrays.

Shapes: E evaluated epochs, P rows of a modality, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmcontrast.config import CellConfig
from mmcontrast.errors import DataError
from mmcontrast.evaluation.frames import by_epoch, read_outputs

COLUMNS = {
    **{"seed": pl.Int64, "epoch": pl.Int64, "split": pl.String, "modality": pl.String, "id": pl.String},
    **{"label": None, "observation": pl.Int64, "embedding": pl.Array},
}
SPLITS = ("val", "test")
Ids = NDArray[np.str_]


@dataclass(frozen=True)
class Observed:
    """One seed's observations of one split and modality at every evaluated epoch.

    Attributes:
        ids: (P,) instance of each row. labels: (P,) its class. observation: (P,) which of the instance's rows it is.
        z: (E, P, D) finite float32, in the order of `epochs`. epochs: ascending, 0-based.
    """

    ids: Ids
    labels: NDArray[np.int64]
    observation: NDArray[np.int64]
    z: NDArray[np.float32]
    epochs: list[int]


def read_observations(path: Path, cell: CellConfig) -> dict[tuple[int, str, str], Observed]:
    """(seed, split, modality) -> embeddings of a cell's embeddings.parquet. "val" may be absent; "test" never is.

    Raises:
        DataError: the file is missing or not what this cell's training writes; names the cell, seed and split.
    """
    frame = read_outputs(path, COLUMNS, cell)
    out: dict[tuple[int, str, str], Observed] = {}
    keys = ["seed", "split", "modality"]
    for (seed, split, modality), part in frame.sort(*keys, "epoch", maintain_order=True).group_by(
        keys, maintain_order=True
    ):
        where = f"{path}: {cell.name}, seed {seed}, {split}, {modality}"
        out[int(str(seed)), str(split), str(modality)] = _one(part, where)
    _check_alike(out, path, cell)
    return out


def _one(part: pl.DataFrame, where: str) -> Observed:
    epochs, rows = by_epoch(part, ["id", "label", "observation"], where)
    z = part["embedding"].to_numpy()
    if not np.isfinite(z).all():
        bad = int((~np.isfinite(z).all(-1)).argmax())
        raise DataError(
            f"{where}: the embedding of {part['id'][bad]} is not finite; the training diverged or the file is damaged"
        )
    labels, observation = rows["label"].to_numpy(), rows["observation"].to_numpy()
    return Observed(np.array(rows["id"].to_list()), labels, observation, z.reshape(len(epochs), len(rows), -1), epochs)


def _check_alike(out: dict[tuple[int, str, str], Observed], path: Path, cell: CellConfig) -> None:
    """Every modality has every instance, and all seeds the same observations at the same epochs."""
    first = cell.seeds[0]
    for modality in cell.modalities:
        if (first, "test", modality) not in out:
            raise DataError(f"{path}: {cell.name}, seed {first}: no rows of the test split of '{modality}'")
    for (seed, split, modality), one in out.items():
        where = f"{path}: {cell.name}, seed {seed}, {split}, {modality}"
        other = out.get((seed, split, next(iter(cell.modalities))))
        if other is None or set(one.ids) != set(other.ids):
            raise DataError(f"{where}: not the instances of the first modality; train the cell again")
        reference = out.get((first, split, modality))
        # only the test split is the same for all seeds: val may be held out by seed
        if split == "test" and (reference is None or not np.array_equal(one.ids, reference.ids)):
            raise DataError(f"{where}: other observations than seed {first}; train the cell again")
        if reference is None or one.epochs != reference.epochs:
            raise DataError(f"{where}: evaluated at other epochs than seed {first}; train the cell again")
