"""Score a cell by retrieval under the protocols of `evaluation.protocols`, from its stored embeddings alone.

Shapes: S seeds, I instances of a split, U queries, R bootstrap replicates.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from mmcontrast.config import CellConfig
from mmcontrast.config.datasets import Retrieval
from mmcontrast.config.metrics import measure
from mmcontrast.evaluation.observations import SPLITS, Observed, read_observations
from mmcontrast.evaluation.protocols import CURVES_SCHEMA, INTERVALS_SCHEMA, metrics_of
from mmcontrast.evaluation.ranking import parts_of, per_query, ranked, reported, score, selection_key
from mmcontrast.evaluation.retrieval import QueryScores
from mmcontrast.evaluation.statistics import Floats, centred_by_class, over_seeds_and_cases

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
