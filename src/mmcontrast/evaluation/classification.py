"""Scores of predicted class probabilities; see `evaluation.scores`.

acc: share of right answers. f1: F1 of class 1. auc: area under the ROC curve of P(class 1). weighted_f1, macro_f1: F1
of the classes that occur among the labels, averaged by their share or equally. balanced_acc: mean recall of those
classes. The predicted class is the first one of the highest probability.

Shapes: N cases, C classes, P classes that occur among the labels, K predictions of the same cases (one per seed),
R sets of case weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from mmcontrast.errors import DataError

Array = NDArray[np.floating]
Labels = NDArray[np.integer]
Answers = NDArray[np.bool_]

SMALLEST_PROBABILITY = 1e-12
POSITIVE = 1


def ratio(numerator: Array, denominator: Array) -> Array:
    """Quotient that is 0 where the denominator is 0, as scikit-learn's zero_division=0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def weighted_counts(columns: Iterable[tuple[Answers, Answers]], weights_RN: Array) -> tuple[Array, Array, Array]:
    """Weighted counts of P yes-or-no questions: hits (R, K, P), said yes (R, K, P), truly yes (R, 1, P).

    Args:
        columns: of each question the (N,) true and the (K, N) said answers, as bool.
    """
    hits, said, true = [], [], []
    for is_N, said_KN in columns:
        hits.append(weights_RN @ (said_KN & is_N).T.astype(float))
        said.append(weights_RN @ said_KN.T.astype(float))
        true.append((weights_RN @ is_N.astype(float))[:, None])
    return np.stack(hits, -1), np.stack(said, -1), np.stack(true, -1)


def _counts(classes_P: Labels, labels_N: Labels, probs_KNC: Array, weights_RN: Array) -> tuple[Array, Array, Array]:
    predicted_KN = probs_KNC.argmax(-1)
    return weighted_counts(((labels_N == c, predicted_KN == c) for c in classes_P), weights_RN)


def _acc(labels_N: Labels, probs_KNC: Array, weights_RN: Array) -> Array:
    hits_KN = probs_KNC.argmax(-1) == labels_N
    return (weights_RN @ hits_KN.T.astype(float)) / weights_RN.sum(1, keepdims=True)


def _f1_by_class(classes_P: Labels, labels_N: Labels, probs_KNC: Array, weights_RN: Array) -> tuple[Array, Array]:
    hits, predicted, true = _counts(classes_P, labels_N, probs_KNC, weights_RN)
    return ratio(2 * hits, predicted + true), true


def _f1(labels_N: Labels, probs_KNC: Array, weights_RN: Array) -> Array:
    return _f1_by_class(np.array([POSITIVE]), labels_N, probs_KNC, weights_RN)[0][:, :, 0]


def _macro_f1(labels_N: Labels, probs_KNC: Array, weights_RN: Array) -> Array:
    return _f1_by_class(np.unique(labels_N), labels_N, probs_KNC, weights_RN)[0].mean(-1)


def _weighted_f1(labels_N: Labels, probs_KNC: Array, weights_RN: Array) -> Array:
    f1_RKP, true_R1P = _f1_by_class(np.unique(labels_N), labels_N, probs_KNC, weights_RN)
    return (f1_RKP * true_R1P).sum(-1) / weights_RN.sum(1, keepdims=True)


def _balanced_acc(labels_N: Labels, probs_KNC: Array, weights_RN: Array) -> Array:
    hits, _, true = _counts(np.unique(labels_N), labels_N, probs_KNC, weights_RN)
    return ratio(hits, np.broadcast_to(true, hits.shape)).mean(-1)


def _auc(labels_N: Labels, probs_KNC: Array, weights_RN: Array) -> Array:
    """Weighted share of (positive, negative) pairs in the right order, ties half; by sorting, not by pairs."""
    positive_N = labels_N == POSITIVE
    if positive_N.all() or not positive_N.any():
        raise DataError("auc: every label is of one class, so no pair can be ordered; drop `auc` from the metrics")
    out_RK = np.empty((len(weights_RN), len(probs_KNC)))
    for k, score_N in enumerate(probs_KNC[:, :, POSITIVE]):
        order_N = np.argsort(score_N, kind="stable")
        sorted_N = score_N[order_N]
        starts = np.flatnonzero(np.concatenate([[True], sorted_N[1:] != sorted_N[:-1]]))
        weights, positive = weights_RN[:, order_N], positive_N[order_N]
        positives_RG = np.add.reduceat(weights * positive, starts, axis=1)
        negatives_RG = np.add.reduceat(weights * ~positive, starts, axis=1)
        below_RG = negatives_RG.cumsum(1) - negatives_RG / 2
        out_RK[:, k] = (positives_RG * below_RG).sum(1) / (positives_RG.sum(1) * negatives_RG.sum(1))
    return out_RK


METRICS: dict[str, Callable[[Labels, Array, Array], Array]] = {
    "acc": _acc,
    "f1": _f1,
    "auc": _auc,
    "weighted_f1": _weighted_f1,
    "macro_f1": _macro_f1,
    "balanced_acc": _balanced_acc,
}


def cross_entropy(labels_N: Labels, probs_NC: Array, weights_N: Array | None = None) -> float:
    """Mean negative log probability of the true class in nats, with probabilities below 1e-12 taken as 1e-12."""
    true_N = probs_NC[np.arange(len(labels_N)), labels_N].astype(float)
    return float(np.average(-np.log(np.maximum(true_N, SMALLEST_PROBABILITY)), weights=weights_N))
