"""Means and intervals of the results table, which tables, figures and the page show.

Scores stay as they are stored here; shares become percent where they are shown.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl

from mmcontrast.config.metrics import SHARE, Measure
from mmcontrast.evaluation.statistics import Difference, Interval, holm, over_seeds

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


def corrected(found: Iterable[Difference]) -> list[float]:
    """The p values of all of these, by Holm's method."""
    return holm(np.array([d.p for d in found])).tolist()


def percent(estimate: Iterable[float]) -> Interval:
    """Mean, low and high of shares as percentages or points; anything after them is dropped."""
    return shown(estimate, SHARE)


def shown(estimate: Iterable[float], of: Measure) -> Interval:
    """Mean, low and high of a score or difference as they are shown; anything after them is dropped."""
    mean, low, high, *_ = estimate
    return Interval(of.factor * mean, of.factor * low, of.factor * high)
