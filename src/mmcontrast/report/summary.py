"""Means, intervals and paired differences of the results table, which tables, figures and the page show.

Scores stay as they are stored here; shares become percent where they are shown.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl

from mmcontrast.config import CellRef, Grid
from mmcontrast.config.metrics import SHARE, Measure, measure
from mmcontrast.evaluation.statistics import Difference, Interval, holm, iqm, over_seeds, paired_difference

CELL = ("dataset", "method", "variant")
SUMMARY_SCHEMA = (
    dict.fromkeys(("experiment", *CELL, "protocol", "metric"), pl.String)
    | dict.fromkeys(("mean", "low", "high"), pl.Float64)
    | dict.fromkeys(("n_seeds", "n_instances"), pl.Int64)
)


def summarise(results: pl.DataFrame) -> pl.DataFrame:
    """Mean test score of every cell, protocol and metric with its interval over seeds (SUMMARY_SCHEMA)."""
    keys = ["experiment", *CELL, "protocol", "metric"]
    rows = []
    for key, part in results.filter(split="test").group_by(keys, maintain_order=True):
        rows.append((*key, *over_seeds(part["value"].to_numpy()), len(part), part["n"][0]))
    return pl.DataFrame(rows, schema=SUMMARY_SCHEMA, orient="row")


def seed_scores(
    results: pl.DataFrame, experiment: str, dataset: str, ref: CellRef, metric: str, protocol: str = "selected"
) -> dict[int, float]:
    """seed -> test score of a cell; empty where the protocol does not exist for it."""
    part = results.filter(
        experiment=experiment,
        dataset=dataset,
        method=ref.method,
        variant=ref.variant,
        split="test",
        metric=metric,
        protocol=protocol,
    )
    return dict(zip(part["seed"], part["value"], strict=True))


def differences(
    results: pl.DataFrame, experiment: str, dataset: str, metric: str, cells: list[CellRef], reference: CellRef
) -> dict[tuple[str, str], tuple[Difference, float]]:
    """(method, variant) -> cell minus reference, by seed, of the selected epoch's test scores, and its p by Holm.

    p is corrected for the comparisons of this call: one dataset, one metric. A cell without a selected score, and the
    reference itself, are not there.
    """
    against = seed_scores(results, experiment, dataset, reference, metric)
    found = {}
    for ref in cells:
        scores = seed_scores(results, experiment, dataset, ref, metric)
        if scores and against and (ref.method, ref.variant) != (reference.method, reference.variant):
            found[ref.method, ref.variant] = paired_difference(scores, against)
    return dict(zip(found, zip(found.values(), corrected(found.values()), strict=True), strict=True))


def corrected(found: Iterable[Difference]) -> list[float]:
    """The p values of all of these, by Holm's method."""
    return holm(np.array([d.p for d in found])).tolist()


def across_datasets(
    grid: Grid, results: pl.DataFrame, experiment: str, datasets: list[str]
) -> dict[tuple[str, str], Interval]:
    """(method, variant) -> interquartile mean of the selected test score over seeds and datasets.

    Only of cells that have a selected score on every dataset, and only where all datasets are selected by one and the
    same metric, which is a share; else, and for fewer than two datasets, there is none.
    """
    metrics = {grid.datasets[d].metrics[0] for d in datasets}
    found: dict[tuple[str, str], Interval] = {}
    if len(datasets) > 1 and len(metrics) == 1 and all(measure(m).percent for m in metrics):
        metric = metrics.pop()
        seeds = sorted(set.intersection(*(set(grid.seeds_of(d)) for d in datasets)))
        for ref in grid.experiments[experiment].cells:
            by_dataset = [seed_scores(results, experiment, d, ref, metric) for d in datasets]
            if seeds and all(by_dataset):
                matrix_SD = np.array([[scores[s] for scores in by_dataset] for s in seeds])
                found[ref.method, ref.variant] = iqm(matrix_SD)
    return found


def lookup(summary: pl.DataFrame, dataset: str, ref: CellRef, protocol: str, metric: str) -> Interval | None:
    """One mean with its interval, or None where the protocol does not exist for the cell.

    `summary` is of one experiment, or a table of intervals over seeds and test instances.
    """
    row = summary.filter(
        dataset=dataset, method=ref.method, variant=ref.variant, protocol=protocol, metric=metric
    ).select("mean", "low", "high")
    return Interval(*row.row(0)) if len(row) else None


def percent(estimate: Iterable[float]) -> Interval:
    """Mean, low and high of shares as percentages or points; anything after them is dropped."""
    return shown(estimate, SHARE)


def shown(estimate: Iterable[float], of: Measure) -> Interval:
    """Mean, low and high of a score or difference as they are shown; anything after them is dropped."""
    mean, low, high, *_ = estimate
    return Interval(of.factor * mean, of.factor * low, of.factor * high)
