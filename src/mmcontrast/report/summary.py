"""Means and intervals of the results table, which tables, figures and the page show.

Scores stay as they are stored here; shares become percent where they are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl

from mmcontrast.config.metrics import SHARE, Measure, measure
from mmcontrast.evaluation.statistics import Interval, over_seeds

CELL = ("dataset", "method", "variant")
SUMMARY_SCHEMA = (
    dict.fromkeys(("experiment", *CELL, "protocol", "metric"), pl.String)
    | dict.fromkeys(("mean", "low", "high"), pl.Float64)
    | dict.fromkeys(("n_seeds", "n_instances"), pl.Int64)
)


def summarise(results: pl.DataFrame, overlap: Mapping[str, float] | None = None) -> pl.DataFrame:
    """Mean test score of every cell, protocol and metric with its interval over seeds (SUMMARY_SCHEMA).

    Args:
        overlap: dataset -> `Dataset.overlap`; 0 where it is not named.
    """
    keys = ["experiment", *CELL, "protocol", "metric"]
    rows = []
    for key, part in results.filter(split="test").group_by(keys, maintain_order=True):
        values, share = part["value"].to_numpy(), measure(str(key[-1])).share
        rows.append((*key, *over_seeds(values, (overlap or {}).get(str(key[1]), 0.0), share), len(part), part["n"][0]))
    return pl.DataFrame(rows, schema=SUMMARY_SCHEMA, orient="row")


def percent(estimate: Iterable[float]) -> Interval:
    """Mean, low and high of shares as percentages or points; anything after them is dropped."""
    return shown(estimate, SHARE)


def shown(estimate: Iterable[float], of: Measure) -> Interval:
    """Mean, low and high of a score or difference as they are shown; anything after them is dropped."""
    mean, low, high, *_ = estimate
    return Interval(of.factor * mean, of.factor * low, of.factor * high)
