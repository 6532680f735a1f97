"""Score a cell from its stored predictions or embeddings: no model is loaded, every number can be recomputed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from mmcontrast.config import CellConfig
from mmcontrast.data.files import replacing
from mmcontrast.evaluation.embeddings import read_embeddings
from mmcontrast.evaluation.predictions import Predictions, read_predictions
from mmcontrast.evaluation.probing import probe_predictions
from mmcontrast.evaluation.protocols import chosen_epochs, curves, metrics_of, only_epoch
from mmcontrast.evaluation.statistics import over_seeds_and_cases

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
    own, and its metrics are called <task>/<metric>.

    Args:
        scored_path: predictions.parquet; of a cell without classifier embeddings.parquet, which a probe is fitted to.

    Raises:
        DataError: the file is missing, incomplete, or holds what is no probability or not finite.
    """
    scored: dict[str, Scored] = {}
    if cell.probed:
        embeddings = read_embeddings(Path(scored_path), cell)
        for task in ("", *cell.tasks):
            predictions = probe_predictions(embeddings, cell, task)
            scored[task] = predictions, only_epoch(predictions, cell.seeds, cell.metrics)
    else:
        predictions = read_predictions(Path(scored_path), cell)
        scored[""] = predictions, chosen_epochs(predictions, cell.seeds, cell.metrics)
    frames: dict[Path, list[pl.DataFrame]] = {Path(p): [] for p in (metrics_path, curves_path, intervals_path)}
    for task, (predictions, epochs) in scored.items():
        curve = curves(predictions, cell.metrics)
        of_task = metrics_of(predictions, curve, epochs, cell.seeds), curve, intervals(predictions, epochs, cell.seeds)
        for parts, frame in zip(frames.values(), of_task, strict=True):
            name = pl.lit(f"{task}/" if task else "") + pl.col("metric")
            parts.append(frame.with_columns(name.alias("metric")))
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
    with replacing(path) as temp:
        frame.write_parquet(temp, compression="zstd")
