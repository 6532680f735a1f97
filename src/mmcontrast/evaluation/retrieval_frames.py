"""Score a cell by retrieval under the protocols of `evaluation.protocols`, from its stored embeddings alone.

Shapes: S seeds, I instances of a split, U queries, R bootstrap replicates.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mmcontrast.config import CellConfig
from mmcontrast.config.datasets import Retrieval
from mmcontrast.evaluation.observations import SPLITS, Observed, read_observations
from mmcontrast.evaluation.protocols import CURVES_SCHEMA, METRICS_SCHEMA
from mmcontrast.evaluation.ranking import parts_of, per_query, ranked, reported, score, selection_key
from mmcontrast.evaluation.retrieval import QueryScores
from mmcontrast.evaluation.statistics import Floats, Interval, over_seeds_and_weighted_cases

Scores = dict[str, QueryScores]
Chosen = dict[tuple[str, str], list[int]]


def retrieval_frames(
    path: Path, cell: CellConfig, intervals_schema: dict[str, Any]
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
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
    values = {key: {m: score(s, m, spec) for m in names} for key, s in found.items()}
    curve = [(*key, m, v) for key, of in values.items() for m, v in of.items()]
    instances = {(s, split): len(set(o.ids)) for (s, split, m), o in observed.items() if m == spec.gallery}
    metrics = [
        (seed, protocol, split, m, values[seed, epoch, split][m], instances[seed, split], epoch)
        for (protocol, m), chosen in epochs.items()
        for split in _splits(protocol, (cell.seeds[0], "val") in instances)
        for seed, epoch in zip(cell.seeds, chosen, strict=True)
    ]
    intervals = [
        (protocol, "test", m, *interval, len(cell.seeds), instances[cell.seeds[0], "test"])
        for (protocol, m), interval in _intervals(found, observed, epochs, cell.seeds, spec).items()
    ]
    return (
        pl.DataFrame(metrics, schema=METRICS_SCHEMA, orient="row"),
        pl.DataFrame(curve, schema=CURVES_SCHEMA, orient="row"),
        pl.DataFrame(intervals, schema=intervals_schema, orient="row"),
    )


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


def _splits(protocol: str, has_val: bool) -> list[str]:
    return ["test", "val"] if has_val and protocol != "optimistic" else ["test"]


def _intervals(
    found: dict[tuple[int, int, str], Scores],
    observed: dict[tuple[int, str, str], Observed],
    epochs: Chosen,
    seeds: list[int],
    spec: Retrieval,
) -> dict[tuple[str, str], Interval]:
    """Intervals over seeds and instances: an instance is drawn with all its queries, and the gallery stays whole."""
    gallery = observed[seeds[0], "test", spec.gallery]
    ids_I, first_I = np.unique(gallery.ids, return_index=True)
    by_metric = {
        key: [_sums([found[s, e, "test"] for s, e in zip(seeds, chosen, strict=True)], *part, ids_I) for part in parts]
        for key, chosen in epochs.items()
        for parts in [parts_of(key[1], spec)]
    }
    return over_seeds_and_weighted_cases(gallery.labels[first_I], by_metric)


def _sums(scores_S: list[Scores], direction: str, metric: str, ids_I: np.ndarray) -> tuple[Floats, Floats]:
    """(S, I) sum of the queries' values of each instance, and (I,) how many queries it has."""
    rows = []
    count_I = np.zeros(len(ids_I))
    for scores in scores_S:
        of = scores[direction]
        place_U = np.searchsorted(ids_I, of.query_ids)
        rows.append(np.bincount(place_U, per_query(of, metric), minlength=len(ids_I)))
        count_I = np.bincount(place_U, minlength=len(ids_I)).astype(float)
    return np.stack(rows), count_I
