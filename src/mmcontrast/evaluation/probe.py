"""Linear probe: what a linear map reads from frozen embeddings.

Features are scaled by train; the strength of the regularisation is the one of the least loss on validation, which is
continuous: an accuracy moves in steps, and the last bit would decide between two strengths. The test split is not an
argument here, it is scored afterwards, once, with `predict`.

Shapes: N cases, D width of the embedding, C classes, labels or quantities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from mmcontrast.config.metrics import Kind
from mmcontrast.errors import DataError
from mmcontrast.evaluation.probe_models import SOLVERS, Array, Model
from mmcontrast.evaluation.scores import loss

STRENGTHS = tuple(float(s) for s in np.logspace(-4, 4, 9))
# strengths in a row whose validation loss is above the least, after which no weaker regularisation is tried
RISES = 2

Weights = tuple[Array, Array]  # of the training and of the validation cases


@dataclass(frozen=True)
class Probe:
    """A fitted probe.

    Attributes:
        strength: the C that was chosen (inverse regularisation), the smallest of equals.
        validation: C -> the loss on validation (`scores.loss`), of every C that was tried, in ascending order.
        converged: whether the chosen fit did.
    """

    scaler: StandardScaler
    model: Model
    strength: float
    validation: dict[float, float]
    converged: bool

    def predict(self, z_ND: Array) -> Array:
        """(N, C) probabilities, 0 for a class that train did not have; of regression numbers in the data's units."""
        return self.model.predict(self.scaler.transform(z_ND.astype(np.float64)))


def fit_probe(
    train_ND: Array,
    train_labels: NDArray,
    val_ND: Array,
    val_labels: NDArray,
    n: int,
    kind: Kind = "classes",
    strengths: Sequence[float] = STRENGTHS,
    weights: Weights | None = None,
    refit_on_val: bool = False,
    scaled_by: Array | None = None,
) -> Probe:
    """The probe of the labels' kind (see `evaluation.probe_models`), its C of the least loss on validation.

    C is raised from the strongest regularisation on, until the loss has been above the least `RISES` times in a row.

    Args:
        train_labels, val_labels: see `evaluation.scores`.
        n: number of classes, labels or quantities.
        weights: of the cases, in the fit and in the validation loss, on any scale; see `balanced`. Default: all alike.
        refit_on_val: fit again on train + validation with the chosen C; see `CommCompat`. (The penalty of CoMM's
            released code is the norm, not squared; that is not brought back.)
        scaled_by: embeddings whose mean and spread scale the features; default: train.

    Raises:
        DataError: no validation cases, embeddings that are not finite or of two widths, or labels that do not vary.
    """
    _check(train_ND, train_labels, val_ND, val_labels)
    if not strengths:
        raise DataError("probe: no regularisation strengths to choose from")
    train_N, val_N = weights or (np.ones(len(train_ND)), np.ones(len(val_ND)))
    scaler = StandardScaler().fit((train_ND if scaled_by is None else scaled_by).astype(np.float64))
    x_ND, v_ND = (scaler.transform(z_ND.astype(np.float64)) for z_ND in (train_ND, val_ND))
    solver = SOLVERS[kind](x_ND, train_labels, train_N / train_N.mean(), n)
    validation: dict[float, float] = {}
    for strength in sorted(strengths):
        validation[strength] = loss(kind, val_labels, solver.at(strength).predict(v_ND), val_N)
        best = min(validation, key=validation.__getitem__)
        if len(validation) - list(validation).index(best) > RISES:
            break
    if refit_on_val:
        both = [np.concatenate(parts) for parts in ((x_ND, v_ND), (train_labels, val_labels), (train_N, val_N))]
        solver = SOLVERS[kind](both[0], both[1], both[2] / both[2].mean(), n)
    model = solver.at(best, chosen=True)
    return Probe(scaler, model, best, validation, model.converged)


def balanced(labels_N: NDArray) -> Array:
    """(N,) weights by which each class that occurs weighs alike, for rare positives such as Trifeature's synergy."""
    _, index_N, counts_C = np.unique(labels_N, return_inverse=True, return_counts=True)
    weights_N: Array = len(labels_N) / (len(counts_C) * counts_C[index_N])
    return weights_N


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
