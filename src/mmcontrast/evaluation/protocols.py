"""How an epoch is chosen, and so how a number is made.

last: the final epoch. selected: the epoch that did best on validation, one for all metrics; the headline.
optimistic: for each metric the epoch that did best ON THE TEST SPLIT, which is what some released code reports.

A cell that is scored by a probe has one epoch, the last, and one protocol: what validation selects is the strength of
the probe's regularisation, so it is `selected`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from mmcontrast.config.metrics import measure
from mmcontrast.evaluation.scores import kind_of, loss, score, selection_key
from mmcontrast.evaluation.stored import Predictions

PROTOCOLS = ("selected", "last", "optimistic")
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


def selected_epoch(validation: Predictions, metric: str) -> int:
    """The epoch with the best validation score; of equals the one of lower loss, then the earliest."""
    keys = [selection_key(validation.labels, probs_NC, metric) for probs_NC in validation.probs]
    return validation.epochs[max(range(len(keys)), key=lambda e: (*keys[e], -e))]


def chosen_epochs(
    predictions: dict[tuple[int, str], Predictions], seeds: Sequence[int], metrics: Sequence[str]
) -> dict[tuple[str, str], list[int]]:
    """(protocol, metric) -> the epoch each seed is scored at, in the order of `seeds`.

    The first metric selects. Without a validation split there is no `selected`.
    """
    out: dict[tuple[str, str], list[int]] = {}
    if (seeds[0], "val") in predictions:
        best = [selected_epoch(predictions[s, "val"], metrics[0]) for s in seeds]
        out |= {("selected", m): best for m in metrics}
    out |= {("last", m): [predictions[s, "test"].epochs[-1] for s in seeds] for m in metrics}
    for m in metrics:
        tests = [predictions[s, "test"] for s in seeds]
        scores = [[measure(m).sign * score(m, t.labels, probs_NC) for probs_NC in t.probs] for t in tests]
        # argmax takes the first of equals
        out["optimistic", m] = [t.epochs[int(np.argmax(v))] for t, v in zip(tests, scores, strict=True)]
    return out


def metrics_of(
    cases: Mapping[tuple[int, str], int],
    curve: pl.DataFrame,
    epochs: dict[tuple[str, str], list[int]],
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
