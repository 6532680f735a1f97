"""What a method has learned: a readout's scores beside those of the same readout of the same network, untrained.

Results are rows of results.parquet: dataset, method, variant, seed, protocol, split, metric, value.
"""

from __future__ import annotations

from statistics import fmean

import polars as pl

from mmcontrast.config.methods import untrained_twin
from mmcontrast.config.metrics import measure
from mmcontrast.evaluation.readouts import ENCODERS, OWN, metric_name

Cell = tuple[str, str, str]  # dataset, method, variant


def scores_of(results: pl.DataFrame, cell: Cell, metric: str, split: str = "test") -> dict[int, float]:
    """seed -> score of a cell by the metric's whole name; empty where there is none."""
    dataset, method, variant = cell
    part = results.filter(
        dataset=dataset, method=method, variant=variant, metric=metric, split=split, protocol="selected"
    )
    return dict(zip(part["seed"], part["value"], strict=True))


def headline_readout(results: pl.DataFrame, cell: Cell, metric: str, task: str = "") -> str:
    """ENCODERS or OWN, whichever has the better mean over seeds on validation; OWN where both are equal or alone.

    Of a method that does not fuse its encodings these are its own embedding, and there is no other.
    """
    means = {}
    for readout in (OWN, ENCODERS):
        if scores := scores_of(results, cell, metric_name(metric, task, readout), "val"):
            means[readout] = measure(metric).sign * fmean(scores.values())
    return max(means, key=means.__getitem__, default=OWN)


def gains(results: pl.DataFrame, cell: Cell, metric: str, untrained: Cell | None = None) -> dict[int, float]:
    """seed -> test score minus that of an untrained cell, larger = better; of the seeds that both have.

    Args:
        metric: a whole name such as acc@encoders:5, which both are scored by.
        untrained: default: the cell's own untrained twin.
    """
    dataset, method, variant = cell
    before = scores_of(results, untrained or (dataset, method, untrained_twin(variant)), metric)
    after = scores_of(results, cell, metric)
    return {s: measure(metric).sign * (v - before[s]) for s, v in after.items() if s in before}
