"""Scores of predictions of any kind of target, and the key by which an epoch is selected.

One definition of each metric serves the plain score and the bootstrap, which scores thousands of reweighted test sets
at once. numpy only, because the training loop selects its epoch with it; scikit-learn and scipy are the references in
the tests. Definitions: `classification`, `multilabel`, `regression`.

Shapes: N cases, C classes, labels or quantities, K predictions of the same cases (one per seed), R sets of case
weights. Labels are (N,) class indices, (N, C) zeros and ones, or (N, C) numbers; outputs are probabilities or numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from mmcontrast.config.metrics import Kind, measure, metrics_for
from mmcontrast.errors import DataError, nearest
from mmcontrast.evaluation import classification, multilabel, regression
from mmcontrast.evaluation.classification import Array

MODULES: dict[Kind, ModuleType] = {
    "classes": classification,
    "multilabel": multilabel,
    "regression": regression,
}
LOSSES: dict[Kind, Callable[[NDArray, Array, Array | None], float]] = {
    "classes": classification.cross_entropy,
    "multilabel": multilabel.cross_entropy,
    "regression": regression.squared_error,
}


def kind_of(metric: str, labels: NDArray) -> Kind:
    """The kind of target that a metric scores with such labels.

    Raises:
        DataError: the metric is unknown, or is not for such labels.
    """
    kinds: tuple[Kind, ...] = ("classes",) if labels.ndim == 1 else ("multilabel", "regression")
    for kind in kinds:
        if kind in measure(metric).of:
            return kind
    raise DataError(f"no metric '{metric}'; {nearest(metric, [m for kind in kinds for m in metrics_for(kind)])}")


def weighted_scores(metric: str, labels: NDArray, outputs_KNC: Array, weights_RN: Array) -> Array:
    """(R, K) scores of K predictions of the same cases under R sets of case weights: shares of 1, or in data units.

    Raises:
        DataError: the metric is unknown or not for such labels; `auc` of labels that are all of one class.
    """
    found: Array = MODULES[kind_of(metric, labels)].METRICS[metric](labels, outputs_KNC, weights_RN)
    return found


def score(metric: str, labels: NDArray, outputs_NC: Array, weights_N: Array | None = None) -> float:
    """One metric of one prediction of every case, which all weigh alike by default; see `weighted_scores`."""
    weights_1N = np.ones((1, len(labels))) if weights_N is None else weights_N[None]
    return float(weighted_scores(metric, labels, outputs_NC[None], weights_1N)[0, 0])


def loss(kind: Kind, labels: NDArray, outputs_NC: Array, weights_N: Array | None = None) -> float:
    """What chooses a probe's strength, and between equal scores: cross-entropy in nats, or scaled squared error."""
    return LOSSES[kind](labels, outputs_NC, weights_N)


def selection_key(labels: NDArray, outputs_NC: Array, metric: str) -> tuple[float, float]:
    """How well an epoch did on validation: larger is better, first by the metric, then by lower loss.

    Of epochs that are equal in both, the earliest is to be taken.
    """
    kind = kind_of(metric, labels)
    return measure(metric).sign * score(metric, labels, outputs_NC), -loss(kind, labels, outputs_NC)
