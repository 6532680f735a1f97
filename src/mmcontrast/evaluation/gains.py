"""What a method has learned: a readout's scores beside those of the same readout of the same network, untrained.

Results are rows of results.parquet: dataset, method, variant, seed, protocol, split, metric, value.
"""

from __future__ import annotations

import polars as pl

from mmcontrast.config.methods import untrained_twin
from mmcontrast.config.metrics import measure

Cell = tuple[str, str, str]  # dataset, method, variant


def scores_of(results: pl.DataFrame, cell: Cell, metric: str) -> dict[int, float]:
    """seed -> test score of a cell by the metric's whole name; empty where there is none."""
    dataset, method, variant = cell
    part = results.filter(
        dataset=dataset, method=method, variant=variant, metric=metric, split="test", protocol="selected"
    )
    return dict(zip(part["seed"], part["value"], strict=True))


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
