"""Score a cell by retrieval under the protocols of `evaluation.protocols`, from its stored embeddings alone.

Shapes: S seeds, E evaluated epochs, P rows of a modality, D width, I instances of a split, U queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmcontrast.config import CellConfig
from mmcontrast.config.datasets import Retrieval
from mmcontrast.config.metrics import measure
from mmcontrast.errors import DataError
from mmcontrast.evaluation.protocols import CURVES_SCHEMA, INTERVALS_SCHEMA, metrics_of
from mmcontrast.evaluation.retrieval import QueryScores, parts_of, per_query, ranked, reported, score, selection_key
from mmcontrast.evaluation.statistics import Floats, centred_by_class, over_seeds_and_cases
from mmcontrast.evaluation.stored import by_epoch, read_outputs

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


Scores = dict[str, QueryScores]
Chosen = dict[tuple[str, str], list[int]]


def retrieval_frames(path: Path, cell: CellConfig) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """metrics, curves and intervals of a cell.

    Raises:
        DataError: the file is missing or not what training writes, or k is larger than the gallery.
    """
    spec = cell.retrieval
    if spec is None:
        raise TypeError(f"{cell.name} is not scored by retrieval")
    observed = read_observations(path, cell)
    names = reported(cell.metrics, spec)
    found = score_all(observed, cell, spec)
    epochs = chosen_epochs(found, cell.seeds, names, spec)
    rows = [(*key, m, score(s, m, spec)) for key, s in found.items() for m in names]
    curve = pl.DataFrame(rows, schema=CURVES_SCHEMA, orient="row")
    instances = {(s, split): len(set(o.ids)) for (s, split, m), o in observed.items() if m == spec.gallery}
    gallery, intervals = observed[cell.seeds[0], "test", spec.gallery], []
    ids_I, first_I = np.unique(gallery.ids, return_index=True)
    for (protocol, m), chosen in epochs.items():
        of_seeds = [found[s, e, "test"] for s, e in zip(cell.seeds, chosen, strict=True)]
        slopes_SI = sum(_slopes(of_seeds, *part, ids_I) for part in parts_of(m, spec))
        influence_SI = centred_by_class(gallery.labels[first_I], np.arange(len(ids_I)), np.asarray(slopes_SI))
        values_S = np.array([score(of, m, spec) for of in of_seeds])
        interval = over_seeds_and_cases(values_S, influence_SI, share=measure(m).share)
        kept = influence_SI.astype(np.float32).tolist() if protocol == "selected" else []
        intervals.append((protocol, "test", m, *interval, len(cell.seeds), len(ids_I), kept))
    metrics = metrics_of(instances, curve, epochs, cell.seeds)
    return metrics, curve, pl.DataFrame(intervals, schema=INTERVALS_SCHEMA, orient="row")


def score_all(
    observed: dict[tuple[int, str, str], Observed], cell: CellConfig, spec: Retrieval
) -> dict[tuple[int, int, str], Scores]:
    """(seed, epoch, split) -> the scores of all queries."""
    out = {}
    for seed in cell.seeds:
        for split in SPLITS:
            sides = {m: observed[seed, split, m] for m in cell.modalities if (seed, split, m) in observed}
            if not sides:
                continue
            for e, epoch in enumerate(sides[spec.gallery].epochs):
                out[seed, epoch, split] = ranked({m: (o.z[e], o.ids) for m, o in sides.items()}, spec)
    return out


def chosen_epochs(
    found: dict[tuple[int, int, str], Scores], seeds: list[int], names: list[str], spec: Retrieval
) -> Chosen:
    """(protocol, metric) -> the epoch each seed is scored at. Validation selects one epoch for all metrics."""
    epochs = sorted({epoch for _, epoch, _ in found})
    out: Chosen = {}
    if any(split == "val" for _, _, split in found):
        best = [max(epochs, key=lambda e: (*selection_key(found[s, e, "val"]), -e)) for s in seeds]
        out |= {("selected", m): best for m in names}
    out |= {("last", m): [epochs[-1]] * len(seeds) for m in names}
    for m in names:
        out["optimistic", m] = [max(epochs, key=lambda e: (score(found[s, e, "test"], m, spec), -e)) for s in seeds]
    return out


def _slopes(scores_S: list[Scores], direction: str, metric: str, ids_I: np.ndarray) -> Floats:
    """(S, I) derivative of the mean over queries by the weight of an instance, which has all its queries with it."""
    rows = []
    for scores in scores_S:
        of = scores[direction]
        values_U, place_U = per_query(of, metric), np.searchsorted(ids_I, of.query_ids)
        rows.append(np.bincount(place_U, values_U - values_U.mean(), minlength=len(ids_I)) / len(values_U))
    return np.stack(rows)
