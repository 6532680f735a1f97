"""Score a cell from its stored predictions or embeddings: no model is loaded, every number can be recomputed."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import polars as pl

from mmcontrast.config import CellConfig
from mmcontrast.data.parquet import write_parquet
from mmcontrast.evaluation.embeddings import read_embeddings
from mmcontrast.evaluation.predictions import Predictions, read_predictions
from mmcontrast.evaluation.probing import probe_predictions, views
from mmcontrast.evaluation.protocols import chosen_epochs, curves, metrics_of, only_epoch
from mmcontrast.evaluation.statistics import over_seeds_and_cases
from mmcontrast.evaluation.views import OWN, fitted_on, metric_name

INTERVALS_SCHEMA = {
    "protocol": pl.String,
    "split": pl.String,
    "metric": pl.String,
    "mean": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n_seeds": pl.Int64,
    "n_cases": pl.Int64,
}

# (seed, split) -> predictions, and (protocol, metric) -> the epoch each seed is scored at
Scored = tuple[dict[tuple[int, str], Predictions], dict[tuple[str, str], list[int]]]


def evaluate_cell(
    cell: CellConfig, scored_path: Path, metrics_path: Path, curves_path: Path, intervals_path: Path
) -> None:
    """Write a cell's scores by protocol, its scores by epoch, and its intervals over seeds and test cases.

    Equal inputs give equal bytes. Where a probe is fitted and the dataset has further tasks, each has a probe of its
    own, and its metrics are called <task>/<metric>; those of a further view of the embedding <metric>@<view>.

    Args:
        scored_path: predictions.parquet; of a cell without `finetune` embeddings.parquet, which a probe is fitted to.

    Raises:
        DataError: the file is missing, incomplete, or holds what is no probability or not finite.
    """
    scored: dict[tuple[str, str], Scored] = {}
    if cell.finetune is None:
        embeddings = read_embeddings(Path(scored_path), cell)
        for task, view in product(("", *cell.tasks), views(embeddings)):
            if fitted_on(view) == view:
                for of, predictions in probe_predictions(embeddings, cell, task, view).items():
                    scored[task, of] = predictions, only_epoch(predictions, cell.seeds, cell.metrics)
    else:
        predictions = read_predictions(Path(scored_path), cell)
        scored["", OWN] = predictions, chosen_epochs(predictions, cell.seeds, cell.metrics)
    frames: dict[Path, list[pl.DataFrame]] = {Path(p): [] for p in (metrics_path, curves_path, intervals_path)}
    for (task, view), (predictions, epochs) in scored.items():
        curve = curves(predictions, cell.metrics)
        of_task = metrics_of(predictions, curve, epochs, cell.seeds), curve, intervals(predictions, epochs, cell.seeds)
        for parts, frame in zip(frames.values(), of_task, strict=True):
            names = [metric_name(metric, task, view) for metric in frame["metric"]]
            parts.append(frame.with_columns(pl.Series("metric", names, dtype=pl.String)))
    for path, parts in frames.items():
        write_frame(pl.concat(parts), path)


def intervals(
    predictions: dict[tuple[int, str], Predictions], epochs: dict[tuple[str, str], list[int]], seeds: list[int]
) -> pl.DataFrame:
    """Mean test score of each protocol and metric with its interval over seeds and test cases (INTERVALS_SCHEMA)."""
    tests = [predictions[s, "test"] for s in seeds]
    rows = []
    for protocol in dict.fromkeys(p for p, _ in epochs):
        probs_by_metric = {
            metric: np.stack([t.probs[t.epochs.index(e)] for t, e in zip(tests, chosen, strict=True)])
            for (p, metric), chosen in epochs.items()
            if p == protocol
        }
        found = over_seeds_and_cases(tests[0].labels, probs_by_metric)
        rows += [(protocol, "test", m, *i, len(seeds), len(tests[0].ids)) for m, i in found.items()]
    return pl.DataFrame(rows, schema=INTERVALS_SCHEMA, orient="row")


def write_frame(frame: pl.DataFrame, path: Path) -> None:
    """Parquet that is there whole or not at all."""
    write_parquet(frame.to_arrow(compat_level=pl.CompatLevel.oldest()), path)
