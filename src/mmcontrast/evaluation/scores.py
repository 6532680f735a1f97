"""Scores of predictions of any kind of target, and the key by which an epoch is selected.

One definition of each metric serves the plain score and the jackknife, which scores thousands of reweighted test sets
at once. numpy only, because the training loop selects its epoch with it; scikit-learn and scipy are the references in
the tests.

Of classes: acc: share of right answers. f1: F1 of class 1. auc: area under the ROC curve of P(class 1). weighted_f1,
macro_f1: F1 of the classes that occur among the labels, averaged by their share or equally. balanced_acc: mean recall
of those classes. The predicted class is the first one of the highest probability.

Of several labels at once, each predicted where its probability is above 0.5: macro_f1: mean F1 of the labels that occur
among the cases. weighted_f1: the same, weighted by how often they occur. micro_f1: F1 of all decisions together. map:
mean of the average precision of the labels that occur, which asks for no threshold. subset_acc: share of cases with
every label right.

Of numbers, in the units of the data; of several quantities each is scored alone, and the mean over them is given: mse,
mae: mean squared and mean absolute error. rmse: root of the mean squared error. pearson: correlation with the true
values, 0 where the prediction is the same for every case.

Shapes: N cases, C classes, labels or quantities, P classes or labels that occur, K predictions of the same cases (one
per seed), R sets of case weights. Labels are (N,) class indices, (N, C) zeros and ones, or (N, C) numbers; outputs are
probabilities or numbers.
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from mmcontrast.config.metrics import Kind, measure, metrics_for
from mmcontrast.errors import DataError, nearest

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


def cross_entropy(labels_N: Labels, probs_NC: Array, weights_N: Array | None = None) -> float:
    """Mean negative log probability of the true class in nats, with probabilities below 1e-12 taken as 1e-12."""
    true_N = probs_NC[np.arange(len(labels_N)), labels_N].astype(float)
    return float(np.average(-np.log(np.maximum(true_N, SMALLEST_PROBABILITY)), weights=weights_N))


THRESHOLD = 0.5


def _label_counts(labels_NC: Labels, probs_KNC: Array, weights_RN: Array) -> tuple[Array, Array, Array]:
    columns = ((labels_NC[:, c] > 0, probs_KNC[:, :, c] > THRESHOLD) for c in range(labels_NC.shape[1]))
    return weighted_counts(columns, weights_RN)


def _over_occurring(values_RKC: Array, true_R1C: Array) -> Array:
    """(R, K) mean over the labels that occur; a resampled set may lack one that is rare."""
    occurs_R1C = true_R1C > 0
    if not occurs_R1C.any(-1).all():
        raise DataError("no case has any label, so there is nothing to find; use a split in which labels occur")
    return (values_RKC * occurs_R1C).sum(-1) / occurs_R1C.sum(-1)


def _label_macro_f1(labels_NC: Labels, probs_KNC: Array, weights_RN: Array) -> Array:
    hits, said, true = _label_counts(labels_NC, probs_KNC, weights_RN)
    return _over_occurring(ratio(2 * hits, said + true), true)


def _label_weighted_f1(labels_NC: Labels, probs_KNC: Array, weights_RN: Array) -> Array:
    hits, said, true = _label_counts(labels_NC, probs_KNC, weights_RN)
    share = ratio(true, np.broadcast_to(true.sum(-1, keepdims=True), true.shape))
    return (ratio(2 * hits, said + true) * share).sum(-1)


def _micro_f1(labels_NC: Labels, probs_KNC: Array, weights_RN: Array) -> Array:
    hits, said, true = (count.sum(-1) for count in _label_counts(labels_NC, probs_KNC, weights_RN))
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


def binary_cross_entropy(labels_NC: Labels, probs_NC: Array, weights_N: Array | None = None) -> float:
    """Mean over cases and labels of -log P(what is true), in nats; P below 1e-12 is taken as 1e-12."""
    true_NC = np.where(labels_NC > 0, probs_NC, 1 - probs_NC.astype(float))
    return float(np.average(-np.log(np.maximum(true_NC, SMALLEST_PROBABILITY)).mean(1), weights=weights_N))


# a variance below this, of values scaled to one, is that of rounding
NO_SPREAD = 1e-12


def _errors(labels_NC: Array, values_KNC: Array) -> Array:
    return values_KNC.astype(float) - labels_NC.astype(float)


def _weighted_mean(values_KNC: Array, weights_RN: Array) -> Array:
    return np.stack([weights_RN @ v_NC for v_NC in values_KNC], axis=1) / weights_RN.sum(1)[:, None, None]


def _pearson(labels_NC: Array, values_KNC: Array, weights_RN: Array) -> Array:
    # centred and scaled as a whole first: what is left to subtract in a resampled set is then small
    x_KNC, y_1NC = _scaled(values_KNC), _scaled(labels_NC[None])
    mean_x, mean_y = _weighted_mean(x_KNC, weights_RN), _weighted_mean(y_1NC, weights_RN)
    both = _weighted_mean(x_KNC * y_1NC, weights_RN) - mean_x * mean_y
    spread_x = _weighted_mean(x_KNC**2, weights_RN) - mean_x**2
    spread_y = _weighted_mean(y_1NC**2, weights_RN) - mean_y**2
    spread = np.where(np.minimum(spread_x, spread_y) > NO_SPREAD, spread_x * spread_y, 0)
    return np.clip(ratio(both, np.sqrt(spread)), -1, 1).mean(-1)


def _scaled(values_KNC: Array) -> Array:
    values_KNC = values_KNC.astype(float)
    centred_KNC = values_KNC - values_KNC.mean(1, keepdims=True)
    # equal values have a mean that is not quite theirs
    constant_K1C = np.ptp(values_KNC, axis=1, keepdims=True) == 0
    return np.where(constant_K1C, 0, centred_KNC / np.where(constant_K1C, 1, values_KNC.std(1, keepdims=True)))


def squared_error(labels_NC: Array, values_NC: Array, weights_N: Array | None = None) -> float:
    """Mean over cases and quantities of the squared error, each quantity in units of its own spread among the cases."""
    labels_NC = labels_NC.astype(float)
    spread_C = labels_NC.std(0)
    errors_NC = (values_NC - labels_NC) / np.where(spread_C > 0, spread_C, 1)
    return float(np.average((errors_NC**2).mean(1), weights=weights_N))


METRICS: dict[Kind, dict[str, Callable[[NDArray, Array, Array], Array]]] = {
    "classes": {
        "acc": _acc,
        "f1": lambda y, p, w: _f1_by_class(np.array([POSITIVE]), y, p, w)[0][:, :, 0],
        "auc": _auc,
        "weighted_f1": _weighted_f1,
        "macro_f1": lambda y, p, w: _f1_by_class(np.unique(y), y, p, w)[0].mean(-1),
        "balanced_acc": _balanced_acc,
    },
    "multilabel": {
        "macro_f1": _label_macro_f1,
        "weighted_f1": _label_weighted_f1,
        "micro_f1": _micro_f1,
        "map": _map,
        "subset_acc": _subset_acc,
    },
    "regression": {
        "mse": lambda y, v, w: _weighted_mean(_errors(y, v) ** 2, w).mean(-1),
        "rmse": lambda y, v, w: np.sqrt(_weighted_mean(_errors(y, v) ** 2, w)).mean(-1),
        "mae": lambda y, v, w: _weighted_mean(np.abs(_errors(y, v)), w).mean(-1),
        "pearson": _pearson,
    },
}
LOSSES: dict[Kind, Callable[[NDArray, Array, Array | None], float]] = {
    "classes": cross_entropy,
    "multilabel": binary_cross_entropy,
    "regression": squared_error,
}


def kind_of(metric: str, labels: NDArray) -> Kind:
    """The kind of target that a metric scores with such labels; DataError for one that is unknown or for others."""
    kinds: tuple[Kind, ...] = ("classes",) if labels.ndim == 1 else ("multilabel", "regression")
    for kind in kinds:
        if kind in measure(metric).of:
            return kind
    raise DataError(f"no metric '{metric}'; {nearest(metric, [m for kind in kinds for m in metrics_for(kind)])}")


def weighted_scores(metric: str, labels: NDArray, outputs_KNC: Array, weights_RN: Array) -> Array:
    """(R, K) scores of K predictions of the same cases under R sets of case weights: shares of 1, or in data units.

    Raises DataError: the metric is unknown or not for such labels; `auc` of labels that are all of one class.
    """
    return METRICS[kind_of(metric, labels)][metric](labels, outputs_KNC, weights_RN)


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
