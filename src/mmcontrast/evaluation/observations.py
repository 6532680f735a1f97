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
from mmcontrast.data.parquet import read_parquet
from mmcontrast.errors import DataError

COLUMNS = ("seed", "epoch", "split", "modality", "id", "label", "observation", "embedding")
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
    if not path.is_file():
        raise DataError(f"{path}: no embeddings; run `mmcontrast {cell.last_stage} {cell.name}` first")
    frame = pl.DataFrame(pl.from_arrow(read_parquet(path, f"train {cell.name} again")))
    if missing := [c for c in COLUMNS if c not in frame.columns]:
        raise DataError(f"{path}: no column {', '.join(missing)}; expected {', '.join(COLUMNS)}")
    if empty := [c for c in COLUMNS if frame[c].null_count()]:
        raise DataError(
            f"{path}: {cell.name}: column {', '.join(empty)} has rows without a value; train the cell again"
        )
    found = frame["seed"].unique().sort().to_list()
    if found != sorted(cell.seeds):
        raise DataError(
            f"{path}: {cell.name}: embeddings of seeds {found}, and the suite lists {sorted(cell.seeds)}; "
            "train the cell again"
        )
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
    epochs = part["epoch"].unique().sort().to_list()
    n = len(part) // len(epochs)
    keys = part.select("id", "label", "observation")
    if any(not keys[i * n : (i + 1) * n].equals(keys[:n]) for i in range(len(epochs))) or len(part) != n * len(epochs):
        raise DataError(f"{where}: not the same observations at every epoch; train the cell again")
    if not isinstance(part["embedding"].dtype, pl.Array):
        raise DataError(f"{where}: embedding is {part['embedding'].dtype}, expected float32 of one width")
    z = part["embedding"].to_numpy()
    if not np.isfinite(z).all():
        bad = int((~np.isfinite(z).all(-1)).argmax())
        raise DataError(
            f"{where}: the embedding of {part['id'][bad]} is not finite; the training diverged or the file is damaged"
        )
    first = keys[:n]
    return Observed(
        np.array(first["id"].to_list()),
        first["label"].to_numpy(),
        first["observation"].to_numpy(),
        z.reshape(len(epochs), n, -1),
        epochs,
    )


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
