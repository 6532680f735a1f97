"""Score a cell from its stored predictions or embeddings: no model is loaded, every number can be recomputed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl

from mmcontrast.config import CellConfig
from mmcontrast.config.metrics import measure, metric_name
from mmcontrast.data.parquet import write_parquet
from mmcontrast.evaluation.columns import ENCODERS, OWN, fitted_on
from mmcontrast.evaluation.probe_predictions import few_label_scores, probe_predictions, readouts
from mmcontrast.evaluation.protocols import INTERVALS_SCHEMA, chosen_epochs, curves, metrics_of
from mmcontrast.evaluation.retrieval_frames import retrieval_frames
from mmcontrast.evaluation.scores import weighted_scores
from mmcontrast.evaluation.statistics import case_influence, over_seeds_and_cases
from mmcontrast.evaluation.stored import Predictions, read_embeddings, read_predictions

Frames = tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]  # metrics, curves, intervals
# (seed, split) -> predictions, and (protocol, metric) -> the epoch each seed is scored at
Scored = tuple[dict[tuple[int, str], Predictions], dict[tuple[str, str], list[int]]]


def evaluate_cell(
    cell: CellConfig, scored_path: Path, metrics_path: Path, curves_path: Path, intervals_path: Path
) -> None:
    """Write a cell's scores by protocol, its scores by epoch, and its intervals over seeds and test instances.

    Equal inputs give equal bytes. Where a probe is fitted and the dataset has further tasks, each has a probe of its
    own, and its metrics are called <task>/<metric>; those of a further readout of the embedding <metric>@<readout>, and
    those of cell.label_counts <metric>:<count>, which have no intervals.

    Args:
        scored_path: predictions.parquet; of a cell without classifier embeddings.parquet, which a probe is fitted to,
            or retrieval ranks by.

    Raises:
        DataError: the file is missing, incomplete, or holds what is no probability or not finite.
    """
    frames = FRAMES[cell.scored_by](Path(scored_path), cell)
    for frame, path in zip(frames, (metrics_path, curves_path, intervals_path), strict=True):
        write_frame(frame, Path(path))


def _probed(path: Path, cell: CellConfig) -> Frames:
    embeddings = read_embeddings(path, cell)
    scored: dict[tuple[str, str], Scored] = {}
    losses = []
    for task, readout in product(("", *cell.tasks), readouts(embeddings)):
        if fitted_on(readout) == readout:
            by_readout, of_strengths = probe_predictions(embeddings, cell, task, readout)
            losses.append(_named(of_strengths, task, readout))
            for of, predictions in by_readout.items():
                # the last epoch, whose weights are probed
                last = [predictions[s, "test"].epochs[-1] for s in cell.seeds]
                scored[task, of] = predictions, {("selected", m): last for m in cell.targets[task].metrics}
    metrics, curve, found = _of_tasks(scored, cell)
    few = [few_label_scores(embeddings, cell, r) for r in readouts(embeddings) if r in (OWN, ENCODERS)]
    return pl.concat([metrics, *few]), pl.concat([curve, *losses], how="diagonal"), found


def _classified(path: Path, cell: CellConfig) -> Frames:
    predictions = read_predictions(path, cell)
    return _of_tasks({("", OWN): (predictions, chosen_epochs(predictions, cell.seeds, cell.metrics))}, cell)


FRAMES: dict[str, Callable[[Path, CellConfig], Frames]] = {
    "probe": _probed,
    "classifier": _classified,
    "retrieval": retrieval_frames,
}


def _of_tasks(scored: dict[tuple[str, str], Scored], cell: CellConfig) -> Frames:
    parts: tuple[list[pl.DataFrame], ...] = ([], [], [])
    for (task, readout), (predictions, epochs) in scored.items():
        curve = curves(predictions, cell.targets[task].metrics)
        cases = {key: len(p.ids) for key, p in predictions.items()}
        of_task = metrics_of(cases, curve, epochs, cell.seeds), curve, intervals(predictions, epochs, cell.seeds)
        for kept, frame in zip(parts, of_task, strict=True):
            kept.append(_named(frame, task, readout))
    metrics, curve, found = map(pl.concat, parts)
    return metrics, curve, found


def _named(frame: pl.DataFrame, task: str, readout: str) -> pl.DataFrame:
    names = [metric_name(metric, task, readout) for metric in frame["metric"]]
    return frame.with_columns(pl.Series("metric", names, dtype=pl.String))


def intervals(
    predictions: dict[tuple[int, str], Predictions], epochs: dict[tuple[str, str], list[int]], seeds: list[int]
) -> pl.DataFrame:
    """Mean test score of each protocol and metric, its interval over seeds and test instances (INTERVALS_SCHEMA)."""
    tests = [predictions[s, "test"] for s in seeds]
    order = np.argsort(tests[0].ids)
    labels, rows = tests[0].labels[order], []
    weights_N = np.ones(len(labels)) if tests[0].weights is None else tests[0].weights[order]
    for (protocol, metric), chosen in epochs.items():
        outputs_SNC = np.stack([t.probs[t.epochs.index(e)][order] for t, e in zip(tests, chosen, strict=True)])
        values_S = weighted_scores(metric, labels, outputs_SNC, weights_N[None])[0]
        influence_SN = case_influence(metric, labels, outputs_SNC, weights_N)
        found = over_seeds_and_cases(values_S, influence_SN, share=measure(metric).share)
        kept = influence_SN.astype(np.float32).tolist() if protocol == "selected" else []
        rows.append((protocol, "test", metric, *found, len(seeds), len(labels), kept))
    return pl.DataFrame(rows, schema=INTERVALS_SCHEMA, orient="row")


def write_frame(frame: pl.DataFrame, path: Path) -> None:
    """Parquet that is there whole or not at all."""
    write_parquet(frame.to_arrow(compat_level=pl.CompatLevel.oldest()), path)
