"""Scores of predicted numbers, in the units of the data; see `evaluation.scores`.

Of several quantities each is scored alone, and the mean over them is given. mse, mae: mean squared and mean absolute
error. rmse: root of the mean squared error. pearson: correlation with the true values, 0 where the prediction is the
same for every case.

Shapes: N cases, C quantities, K predictions of the same cases, R sets of case weights.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mmcontrast.evaluation.classification import Array, ratio

# a variance below this, of values scaled to one, is that of rounding
NO_SPREAD = 1e-12


def _errors(labels_NC: Array, values_KNC: Array) -> Array:
    return values_KNC.astype(float) - labels_NC.astype(float)


def _weighted_mean(values_KNC: Array, weights_RN: Array) -> Array:
    """(R, K, C)."""
    return np.stack([weights_RN @ v_NC for v_NC in values_KNC], axis=1) / weights_RN.sum(1)[:, None, None]


def _mse(labels_NC: Array, values_KNC: Array, weights_RN: Array) -> Array:
    return _weighted_mean(_errors(labels_NC, values_KNC) ** 2, weights_RN).mean(-1)


def _rmse(labels_NC: Array, values_KNC: Array, weights_RN: Array) -> Array:
    return np.sqrt(_weighted_mean(_errors(labels_NC, values_KNC) ** 2, weights_RN)).mean(-1)


def _mae(labels_NC: Array, values_KNC: Array, weights_RN: Array) -> Array:
    return _weighted_mean(np.abs(_errors(labels_NC, values_KNC)), weights_RN).mean(-1)


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


METRICS: dict[str, Callable[[Array, Array, Array], Array]] = {
    "mse": _mse,
    "rmse": _rmse,
    "mae": _mae,
    "pearson": _pearson,
}


def squared_error(labels_NC: Array, values_NC: Array, weights_N: Array | None = None) -> float:
    """Mean over cases and quantities of the squared error, each quantity in units of its own spread among the cases."""
    labels_NC = labels_NC.astype(float)
    spread_C = labels_NC.std(0)
    errors_NC = (values_NC - labels_NC) / np.where(spread_C > 0, spread_C, 1)
    return float(np.average((errors_NC**2).mean(1), weights=weights_N))
