"""Scores of several labels at once, of the probability of each; see `evaluation.scores`.

A label is predicted where its probability is above 0.5, whatever the label.

macro_f1: mean F1 of the labels that occur among the cases. weighted_f1: the same, weighted by how often they occur.
micro_f1: F1 of all decisions together. map: mean of the average precision of the labels that occur, which asks for no
threshold. subset_acc: share of cases with every label right.

Shapes: N cases, C labels, P labels that occur, K predictions of the same cases, R sets of case weights.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mmcontrast.errors import DataError
from mmcontrast.evaluation.classification import SMALLEST_PROBABILITY, Array, Labels, ratio, weighted_counts

THRESHOLD = 0.5


def _counts(labels_NC: Labels, probs_KNC: Array, weights_RN: Array) -> tuple[Array, Array, Array]:
    columns = ((labels_NC[:, c] > 0, probs_KNC[:, :, c] > THRESHOLD) for c in range(labels_NC.shape[1]))
    return weighted_counts(columns, weights_RN)


def _over_occurring(values_RKC: Array, true_R1C: Array) -> Array:
    """(R, K) mean over the labels that occur; a resampled set may lack one that is rare."""
    occurs_R1C = true_R1C > 0
    if not occurs_R1C.any(-1).all():
        raise DataError("no case has any label, so there is nothing to find; use a split in which labels occur")
    return (values_RKC * occurs_R1C).sum(-1) / occurs_R1C.sum(-1)


def _macro_f1(labels_NC: Labels, probs_KNC: Array, weights_RN: Array) -> Array:
    hits, said, true = _counts(labels_NC, probs_KNC, weights_RN)
    return _over_occurring(ratio(2 * hits, said + true), true)


def _weighted_f1(labels_NC: Labels, probs_KNC: Array, weights_RN: Array) -> Array:
    hits, said, true = _counts(labels_NC, probs_KNC, weights_RN)
    share = ratio(true, np.broadcast_to(true.sum(-1, keepdims=True), true.shape))
    return (ratio(2 * hits, said + true) * share).sum(-1)


def _micro_f1(labels_NC: Labels, probs_KNC: Array, weights_RN: Array) -> Array:
    hits, said, true = (count.sum(-1) for count in _counts(labels_NC, probs_KNC, weights_RN))
    return ratio(2 * hits, said + true)


def _subset_acc(labels_NC: Labels, probs_KNC: Array, weights_RN: Array) -> Array:
    right_KN = ((probs_KNC > THRESHOLD) == (labels_NC > 0)).all(-1)
    return (weights_RN @ right_KN.T.astype(float)) / weights_RN.sum(1, keepdims=True)


def _map(labels_NC: Labels, probs_KNC: Array, weights_RN: Array) -> Array:
    precision_RKC = np.empty((len(weights_RN), len(probs_KNC), labels_NC.shape[1]))
    true_R1C = (weights_RN @ (labels_NC > 0).astype(float))[:, None]
    for c, is_N in enumerate((labels_NC > 0).T):
        for k, score_N in enumerate(probs_KNC[:, :, c]):
            precision_RKC[:, k, c] = _average_precision(is_N, score_N, weights_RN)
    return _over_occurring(precision_RKC, true_R1C)


def _average_precision(is_N: Array, score_N: Array, weights_RN: Array) -> Array:
    """(R,) sum over thresholds of precision x gain in recall; cases of one score come in together."""
    order_N = np.argsort(-score_N, kind="stable")
    sorted_N = score_N[order_N]
    starts = np.flatnonzero(np.concatenate([[True], sorted_N[1:] != sorted_N[:-1]]))
    weights = weights_RN[:, order_N]
    hits_RG = np.add.reduceat(weights * is_N[order_N], starts, axis=1)
    taken_RG = np.add.reduceat(weights, starts, axis=1).cumsum(1)
    precision_RG = ratio(hits_RG.cumsum(1), taken_RG)
    return ratio((hits_RG * precision_RG).sum(1), hits_RG.sum(1))


METRICS: dict[str, Callable[[Labels, Array, Array], Array]] = {
    "macro_f1": _macro_f1,
    "weighted_f1": _weighted_f1,
    "micro_f1": _micro_f1,
    "map": _map,
    "subset_acc": _subset_acc,
}


def cross_entropy(labels_NC: Labels, probs_NC: Array, weights_N: Array | None = None) -> float:
    """Mean over cases and labels of -log P(what is true), in nats; P below 1e-12 is taken as 1e-12."""
    true_NC = np.where(labels_NC > 0, probs_NC, 1 - probs_NC.astype(float))
    return float(np.average(-np.log(np.maximum(true_NC, SMALLEST_PROBABILITY)).mean(1), weights=weights_N))
