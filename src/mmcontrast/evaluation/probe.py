"""Linear probe: what a linear map reads from frozen embeddings.

Features are scaled by train; the strength of the regularisation is chosen on validation alone; the test split is not an
argument here, it is scored afterwards, once, with `predict`.

Shapes: N cases, D width of the embedding, C classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mmcontrast.errors import DataError
from mmcontrast.evaluation.classification import selection_key

Array = NDArray[np.floating]
Labels = NDArray[np.integer]

STRENGTHS = tuple(float(s) for s in np.logspace(-4, 4, 9))


@dataclass(frozen=True)
class Probe:
    """A fitted classifier.

    Attributes:
        strength: the C that was chosen (inverse regularisation), the smallest of equals.
        validation: C -> the metric on validation, of every C that was tried.
        converged: whether the chosen fit did.
    """

    scaler: StandardScaler
    model: LogisticRegression
    n_classes: int
    strength: float
    validation: dict[float, float]
    converged: bool

    def predict(self, z_ND: Array) -> Array:
        """(N, C) probabilities; 0 for a class that train did not have."""
        probs_NC = np.zeros((len(z_ND), self.n_classes))
        probs_NC[:, self.model.classes_] = self.model.predict_proba(self.scaler.transform(z_ND))
        return probs_NC


def fit_probe(
    train_ND: Array,
    train_labels_N: Labels,
    val_ND: Array,
    val_labels_N: Labels,
    n_classes: int,
    metric: str = "balanced_acc",
    strengths: Sequence[float] = STRENGTHS,
    class_weight: Literal["balanced"] | None = None,
    refit_on_val: bool = False,
    max_iter: int = 1000,
) -> Probe:
    """Multinomial logistic regression with a squared L2 penalty, C chosen by `metric` on validation.

    Of equal scores the one of lower cross-entropy is taken, then the stronger regularisation.

    Args:
        metric: see `evaluation.classification`; balanced_acc is macro accuracy, for which chance is 1 / C.
        class_weight: balanced = each class weighs alike, for rare positives such as Trifeature's synergy.
        refit_on_val: fit again on train + validation with the chosen C; see `CommCompat`. (The penalty of CoMM's
            released code is the norm, not squared; that is not brought back.)

    Raises:
        DataError: no validation cases, embeddings that are not finite or of two widths, or one class in train.
    """
    _check(train_ND, train_labels_N, val_ND, val_labels_N)
    if len(np.unique(train_labels_N)) < 2:
        raise DataError("probe: the training cases are all of one class, so there is nothing to tell apart")
    scaler = StandardScaler().fit(train_ND)
    x_ND, v_ND = scaler.transform(train_ND), scaler.transform(val_ND)
    validation: dict[float, float] = {}
    best: tuple[tuple[float, float], Probe] | None = None
    start: LogisticRegression | None = None
    for strength in sorted(strengths):
        model, converged = _fit(x_ND, train_labels_N, strength, class_weight, max_iter, start)
        start = model
        probe = Probe(scaler, model, n_classes, strength, validation, converged)
        key = selection_key(val_labels_N, probe.predict(val_ND), metric)
        validation[strength] = key[0]
        if best is None or key > best[0]:
            best = key, probe
    if best is None:
        raise DataError("probe: no regularisation strengths to choose from")
    chosen = best[1]
    if not refit_on_val:
        return chosen
    both_labels_N = np.concatenate([train_labels_N, val_labels_N])
    model, converged = _fit(np.concatenate([x_ND, v_ND]), both_labels_N, chosen.strength, class_weight, max_iter, None)
    return Probe(scaler, model, n_classes, chosen.strength, validation, converged)


def _fit(
    x_ND: Array,
    labels_N: Labels,
    strength: float,
    class_weight: Literal["balanced"] | None,
    max_iter: int,
    start: LogisticRegression | None,
) -> tuple[LogisticRegression, bool]:
    """One fit, from the weights of a stronger regularisation where there are any."""
    model = LogisticRegression(C=strength, class_weight=class_weight, max_iter=max_iter, warm_start=start is not None)
    if start is not None:
        model.classes_, model.coef_, model.intercept_ = start.classes_, start.coef_.copy(), start.intercept_.copy()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(x_ND, labels_N)
    return model, not any(issubclass(w.category, ConvergenceWarning) for w in caught)


def _check(train_ND: Array, train_N: NDArray, val_ND: Array, val_N: NDArray) -> None:
    if len(val_ND) == 0:
        raise DataError(
            "probe: no validation cases to choose the regularisation on; give the dataset a validation split, or hold "
            "a share of train out (selection.holdout)"
        )
    for z_ND, of_N, which in ((train_ND, train_N, "training"), (val_ND, val_N, "validation")):
        if len(z_ND) != len(of_N):
            raise DataError(f"probe: {len(z_ND)} {which} embeddings and {len(of_N)} labels")
        if not np.isfinite(z_ND).all():
            raise DataError(f"probe: {which} embeddings hold values that are not finite; train the cell again")
    if train_ND.shape[1] != val_ND.shape[1]:
        raise DataError(f"probe: training embeddings of width {train_ND.shape[1]}, validation {val_ND.shape[1]}")
