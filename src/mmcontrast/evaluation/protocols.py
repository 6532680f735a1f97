"""How an epoch is chosen, and so how a number is made.

last: the final epoch. selected: the epoch that did best on validation, one for all metrics; the headline.
optimistic: for each metric the epoch that did best ON THE TEST SPLIT, which is what some released code reports.

A cell that is scored by a probe has one epoch, the last, and one protocol: what validation selects is the strength of
the probe's regularisation, so it is `selected`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from mmcontrast.config.metrics import measure
from mmcontrast.evaluation.scores import kind_of, loss, score, selection_key
from mmcontrast.evaluation.stored import Predictions

Chosen = dict[tuple[str, str], list[int]]  # (protocol, metric) -> the epoch of each seed
CROSS_ENTROPY = "cross_entropy"
CURVES_SCHEMA = {"seed": pl.Int64, "epoch": pl.Int64, "split": pl.String, "metric": pl.String, "value": pl.Float64}
METRICS_SCHEMA = {
    "seed": pl.Int64,
    "protocol": pl.String,
    "split": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "n": pl.Int64,
    "epoch": pl.Int64,
}
INTERVALS_SCHEMA: dict[str, Any] = {
    "protocol": pl.String,
    "split": pl.String,
    "metric": pl.String,
    "mean": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n_seeds": pl.Int64,
    "n_cases": pl.Int64,
    # by seed, what each test instance, or group of them, moves a selected score by; of other protocols empty
    "influence": pl.List(pl.List(pl.Float32)),
}


def curves(predictions: dict[tuple[int, str], Predictions], metrics: Sequence[str]) -> pl.DataFrame:
    """Every metric, and of probabilities the cross-entropy in nats, of every seed, split and epoch (CURVES_SCHEMA)."""
    rows = []
    for (seed, split), p in predictions.items():
        kind = kind_of(metrics[0], p.labels)
        for epoch, probs_NC in zip(p.epochs, p.probs, strict=True):
            rows += [(seed, epoch, split, m, score(m, p.labels, probs_NC, p.weights)) for m in metrics]
            if kind != "regression":
                rows.append((seed, epoch, split, CROSS_ENTROPY, loss(kind, p.labels, probs_NC, p.weights)))
    return pl.DataFrame(rows, schema=CURVES_SCHEMA, orient="row")


def by_protocol(
    seeds: Sequence[int],
    metrics: Sequence[str],
    epochs: Sequence[int],
    on_val: Callable[[int, int], tuple[float, float] | None],
    on_test: Callable[[int, int, str], float],
) -> Chosen:
    """(protocol, metric) -> the epoch each seed is scored at, in the order of `seeds`; of equals the earliest.

    Args:
        epochs: those evaluated, ascending.
        on_val: (seed, epoch) -> how well it did on validation, larger is better; None = there is no validation split,
            and so nothing is `selected`.
        on_test: (seed, epoch, metric) -> how well it did on the test split, larger is better.
    """
    out: Chosen = {}
    if on_val(seeds[0], epochs[0]) is not None:
        best = [max(epochs, key=lambda e: (*(on_val(s, e) or ()), -e)) for s in seeds]
        out |= {("selected", m): best for m in metrics}
    out |= {("last", m): [epochs[-1]] * len(seeds) for m in metrics}
    return out | {
        ("optimistic", m): [max(epochs, key=lambda e: (on_test(s, e, m), -e)) for s in seeds] for m in metrics
    }


def chosen_epochs(
    predictions: Mapping[tuple[int, str], Predictions], seeds: Sequence[int], metrics: Sequence[str]
) -> Chosen:
    """As `by_protocol`. On validation the first metric selects, and of equal scores the lower loss."""
    epochs = predictions[seeds[0], "test"].epochs

    def on_val(seed: int, epoch: int) -> tuple[float, float] | None:
        of = predictions.get((seed, "val"))
        return None if of is None else selection_key(of.labels, of.probs[epochs.index(epoch)], metrics[0])

    def on_test(seed: int, epoch: int, metric: str) -> float:
        of = predictions[seed, "test"]
        return measure(metric).sign * score(metric, of.labels, of.probs[epochs.index(epoch)])

    return by_protocol(seeds, metrics, epochs, on_val, on_test)


def metrics_of(
    cases: Mapping[tuple[int, str], int],
    curve: pl.DataFrame,
    epochs: Chosen,
    seeds: Sequence[int],
) -> pl.DataFrame:
    """Score of every seed under every protocol (METRICS_SCHEMA). `cases`: (seed, split) -> their number."""
    value = {(s, e, split, m): v for s, e, split, m, v in curve.iter_rows()}
    rows = [
        (seed, protocol, split, metric, value[seed, epoch, split, metric], cases[seed, split], epoch)
        for (protocol, metric), chosen in epochs.items()
        for split in (["test", "val"] if (seeds[0], "val") in cases and protocol != "optimistic" else ["test"])
        for seed, epoch in zip(seeds, chosen, strict=True)
    ]
    return pl.DataFrame(rows, schema=METRICS_SCHEMA, orient="row")
