"""Linear probe: what a linear map reads from frozen embeddings.

Features are scaled by train; the strength of the regularisation is chosen on validation alone; the test split is not an
argument here, it is scored afterwards, once, with `predict`.

Shapes: N cases, D width of the embedding, C classes, labels or quantities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from mmcontrast.config.metrics import measure
from mmcontrast.errors import DataError
from mmcontrast.evaluation.probe_models import SOLVERS, Array, Model, Options
from mmcontrast.evaluation.scores import kind_of, selection_key

STRENGTHS = tuple(float(s) for s in np.logspace(-4, 4, 9))


@dataclass(frozen=True)
class Probe:
    """A fitted probe.

    Attributes:
        strength: the C that was chosen (inverse regularisation), the smallest of equals.
        validation: C -> the metric on validation, of every C that was tried.
        converged: whether the chosen fit did.
    """

    scaler: StandardScaler
    model: Model
    strength: float
    validation: dict[float, float]
    converged: bool

    def predict(self, z_ND: Array) -> Array:
        """(N, C) probabilities, 0 for a class that train did not have; of regression numbers in the data's units."""
        return self.model.predict(self.scaler.transform(z_ND))


def fit_probe(
    train_ND: Array,
    train_labels: NDArray,
    val_ND: Array,
    val_labels: NDArray,
    n: int,
    metric: str = "balanced_acc",
    strengths: Sequence[float] = STRENGTHS,
    class_weight: Literal["balanced"] | None = None,
    refit_on_val: bool = False,
    max_iter: int = 1000,
    train_weights: Array | None = None,
    val_weights: Array | None = None,
) -> Probe:
    """The probe of the labels' kind (see `evaluation.probe_models`), its C chosen by `metric` on validation.

    Of equal scores the one of lower loss is taken, then the stronger regularisation.

    Args:
        train_labels, val_labels: see `evaluation.scores`.
        n: number of classes, labels or quantities.
        metric: see `evaluation.scores`; balanced_acc is macro accuracy, for which chance is 1 / C.
        class_weight: balanced = each class weighs alike, for rare positives such as Trifeature's synergy.
        refit_on_val: fit again on train + validation with the chosen C; see `CommCompat`. (The penalty of CoMM's
            released code is the norm, not squared; that is not brought back.)
        train_weights, val_weights: (N,) what each case counts, of mean 1, in the fit and in the choice of C; of classes
            alone. None = all count alike.

    Raises:
        DataError: no validation cases, embeddings that are not finite or of two widths, or labels that do not vary.
    """
    _check(train_ND, train_labels, val_ND, val_labels)
    solver_of, options = SOLVERS[kind_of(metric, train_labels)], Options(n, class_weight, max_iter)
    scaler = StandardScaler().fit(train_ND)
    x_ND, v_ND = scaler.transform(train_ND), scaler.transform(val_ND)
    solver = solver_of(x_ND, train_labels, replace(options, weights=train_weights))
    validation: dict[float, float] = {}
    best: tuple[tuple[float, float], Probe] | None = None
    for strength in sorted(strengths):
        model = solver.at(strength)
        probe = Probe(scaler, model, strength, validation, model.converged)
        key = selection_key(val_labels, probe.predict(val_ND), metric, val_weights)
        validation[strength] = measure(metric).sign * key[0]
        if best is None or key > best[0]:
            best = key, probe
    if best is None:
        raise DataError("probe: no regularisation strengths to choose from")
    chosen = best[1]
    if not refit_on_val:
        return chosen
    both = np.concatenate([x_ND, v_ND]), np.concatenate([train_labels, val_labels])
    if train_weights is not None and val_weights is not None:
        options = replace(options, weights=np.concatenate([train_weights, val_weights]))
    model = solver_of(*both, options).at(chosen.strength)
    return Probe(scaler, model, chosen.strength, validation, model.converged)


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
