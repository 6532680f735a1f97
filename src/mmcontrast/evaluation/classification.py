"""Scores of predicted class probabilities, and the key by which an epoch is selected.

One definition of each metric serves the plain score and the bootstrap, which scores thousands of reweighted test sets
at once. numpy only, because the training loop selects its epoch with it; scikit-learn is the reference in the tests.

Shapes: N cases, C classes, P classes that occur among the labels, K predictions of the same cases (one per seed),
R sets of case weights.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mmcontrast.errors import DataError, nearest

Array = NDArray[np.floating]
Labels = NDArray[np.integer]

SMALLEST_PROBABILITY = 1e-12
POSITIVE = 1


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Quotient that is 0 where the denominator is 0, as scikit-learn's zero_division=0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def _counts(classes_P: Labels, labels_N: Labels, probs_KNC: Array, weights_RN: Array) -> tuple[Array, Array, Array]:
    """Weighted counts of each class: hits (R, K, P), predicted (R, K, P), true (R, 1, P)."""
    predicted_KN = probs_KNC.argmax(-1)
    shape = (len(weights_RN), len(probs_KNC), len(classes_P))
    hits_RKP, predicted_RKP, true_RP = np.empty(shape), np.empty(shape), np.empty((shape[0], 1, shape[2]))
    for p, c in enumerate(classes_P):
        is_c_N, said_c_KN = labels_N == c, predicted_KN == c
        hits_RKP[:, :, p] = weights_RN @ (said_c_KN & is_c_N).T.astype(float)
        predicted_RKP[:, :, p] = weights_RN @ said_c_KN.T.astype(float)
        true_RP[:, 0, p] = weights_RN @ is_c_N.astype(float)
    return hits_RKP, predicted_RKP, true_RP


def _acc(labels_N: Labels, probs_KNC: Array, weights_RN: Array) -> Array:
    hits_KN = probs_KNC.argmax(-1) == labels_N
    return (weights_RN @ hits_KN.T.astype(float)) / weights_RN.sum(1, keepdims=True)


def _f1_by_class(classes_P: Labels, labels_N: Labels, probs_KNC: Array, weights_RN: Array) -> tuple[Array, Array]:
    hits, predicted, true = _counts(classes_P, labels_N, probs_KNC, weights_RN)
    return _ratio(2 * hits, predicted + true), true


def _f1(labels_N: Labels, probs_KNC: Array, weights_RN: Array) -> Array:
    return _f1_by_class(np.array([POSITIVE]), labels_N, probs_KNC, weights_RN)[0][:, :, 0]


def _macro_f1(labels_N: Labels, probs_KNC: Array, weights_RN: Array) -> Array:
    return _f1_by_class(np.unique(labels_N), labels_N, probs_KNC, weights_RN)[0].mean(-1)


def _weighted_f1(labels_N: Labels, probs_KNC: Array, weights_RN: Array) -> Array:
    f1_RKP, true_R1P = _f1_by_class(np.unique(labels_N), labels_N, probs_KNC, weights_RN)
    return (f1_RKP * true_R1P).sum(-1) / weights_RN.sum(1, keepdims=True)


def _balanced_acc(labels_N: Labels, probs_KNC: Array, weights_RN: Array) -> Array:
    hits, _, true = _counts(np.unique(labels_N), labels_N, probs_KNC, weights_RN)
    return _ratio(hits, np.broadcast_to(true, hits.shape)).mean(-1)


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


def weighted_scores(metric: str, labels_N: Labels, probs_KNC: Array, weights_RN: Array) -> Array:
    """(R, K) scores, 0 to 1, of K predictions of the same cases under R sets of case weights.

    acc: share of right answers. f1: F1 of class 1. auc: area under the ROC curve of P(class 1). weighted_f1, macro_f1:
    F1 of the classes that occur among the labels, averaged by their share or equally. balanced_acc: mean recall of
    those classes. The predicted class is the first one of the highest probability.

    Raises:
        DataError: the metric is unknown, or `auc` of labels that are all of one class.
    """
    if metric not in METRICS:
        raise DataError(f"no metric '{metric}'; {nearest(metric, METRICS)}")
    return METRICS[metric](labels_N, probs_KNC, weights_RN)


def score(metric: str, labels_N: Labels, probs_NC: Array) -> float:
    """One metric, 0 to 1, of one prediction of every case; see `weighted_scores`."""
    return float(weighted_scores(metric, labels_N, probs_NC[None], np.ones((1, len(labels_N))))[0, 0])


def cross_entropy(labels_N: Labels, probs_NC: Array) -> float:
    """Mean negative log probability of the true class in nats, with probabilities below 1e-12 taken as 1e-12."""
    true_N = probs_NC[np.arange(len(labels_N)), labels_N].astype(float)
    return float(-np.log(np.maximum(true_N, SMALLEST_PROBABILITY)).mean())


def selection_key(labels_N: Labels, probs_NC: Array, metric: str) -> tuple[float, float]:
    """How well an epoch did on validation: larger is better, first by the metric, then by lower cross-entropy.

    Of epochs that are equal in both, the earliest is to be taken.
    """
    return score(metric, labels_N, probs_NC), -cross_entropy(labels_N, probs_NC)
