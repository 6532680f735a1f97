"""Linear probe: what a linear map reads from frozen embeddings.

Features are scaled by train; the strength of the regularisation is the one of the least loss on validation, which is
continuous: an accuracy moves in steps, and the last bit would decide between two strengths. The test split is not an
argument here, it is scored afterwards, once, with `predict`.

classes: multinomial logistic regression. multilabel: a logistic regression for each label, all of one strength.
regression: ridge regression of all quantities, each scaled to unit variance, of one strength. Each is solved to its
optimum, so that a score is a property of the embeddings and of nothing else: a solver that stops early leaves a model
that depends on the rounding of matrix products, which differs between processors. All strengths are tried first, and
those near the best alone are taken to the optimum.

Shapes: N cases, D width of the embedding, C classes, labels or quantities, K = min(N, D). To solvers features come
scaled; a strength is inverse, and called C.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.preprocessing import StandardScaler

from mmcontrast.config.metrics import Kind
from mmcontrast.errors import DataError
from mmcontrast.evaluation.logistic import Logistic
from mmcontrast.evaluation.scores import loss

Array = NDArray[np.floating]


class Solver(Protocol):
    """The training cases of a probe."""

    def at(self, strength: float, tried: bool = False) -> Model:
        """The fit at a strength, or one near it that is only tried; it may start from fits before."""
        ...


@dataclass(frozen=True)
class Classifier:
    """Probabilities of classes; 0 for a class that train did not have. C are those that it had.

    Attributes:
        basis: (D, K). weights: (K + 1, C), the last row the intercepts. classes: (C,) of the `n` there are.
    """

    basis: Array
    weights: Array
    classes: NDArray
    n: int
    converged: bool

    def predict(self, x_ND: Array) -> Array:
        probs_NC = np.zeros((len(x_ND), self.n))
        probs_NC[:, self.classes] = softmax(x_ND @ self.basis @ self.weights[:-1] + self.weights[-1], axis=1)
        return probs_NC


class ClassSolver:
    """See the module. The features are rotated to their principal axes, which changes no penalty.

    Of fewer cases than features, the weights are found in the span of the cases, where they lie.
    """

    def __init__(self, x_ND: Array, labels_N: NDArray, weights_N: Array, n: int) -> None:
        self.classes, self.index_N = np.unique(labels_N, return_inverse=True)
        if len(self.classes) < 2:
            raise DataError("probe: the training cases are all of one class, so there is nothing to tell apart")
        self.basis = np.linalg.svd(x_ND, full_matrices=False)[2].T
        self.x_NK, self.n = x_ND @ self.basis, n
        self.regression = Logistic(self.x_NK, self.index_N, weights_N, len(self.classes))
        cases = b"".join(np.ascontiguousarray(of).tobytes() for of in (x_ND, labels_N, weights_N))
        self.fits = _fits(sha256(cases).digest(), n, self.regression.factorised)

    def at(self, strength: float, tried: bool = False) -> Classifier:
        if (strength, tried) not in self.fits:
            last = self.fits.get((strength, True)) or next(reversed(self.fits.values()), None)
            fit = self.regression.near if tried else self.regression.optimum
            weights, converged = fit(strength, None if last is None else last.weights)
            self.fits[strength, tried] = Classifier(self.basis, weights, self.classes, self.n, converged)
        return self.fits[strength, tried]


@lru_cache(maxsize=256)
def _fits(cases: bytes, n: int, factorised: bool) -> dict[tuple[float, bool], Classifier]:
    """Fits of equal cases, which tasks and seeds may share, by strength and whether it is only tried."""
    return {}


@dataclass(frozen=True)
class Fit:
    """Probabilities of labels, or numbers in the units of the labels."""

    predict: Callable[[Array], Array]
    converged: bool = True


@dataclass(frozen=True)
class Constant:
    """Of a label that all training cases have, or none has."""

    label: int
    converged: bool = True

    def predict(self, x_ND: Array) -> Array:
        return np.tile(np.eye(2)[self.label], (len(x_ND), 1))

    def at(self, strength: float, tried: bool = False) -> Constant:
        """It is the same at every strength."""
        return self


class LabelSolver:
    """See the module."""

    def __init__(self, x_ND: Array, labels_NC: NDArray, weights_N: Array, n: int) -> None:
        self.solvers: list[Solver] = [
            Constant(int(y_N[0])) if (y_N == y_N[0]).all() else ClassSolver(x_ND, y_N, weights_N, 2)
            for y_N in labels_NC.astype(np.int64).T
        ]
        if all(isinstance(solver, Constant) for solver in self.solvers):
            raise DataError("probe: the training cases all have the same labels, so there is nothing to tell apart")

    def at(self, strength: float, tried: bool = False) -> Fit:
        models = [solver.at(strength, tried) for solver in self.solvers]
        converged = all(model.converged for model in models)
        return Fit(lambda x_ND: np.stack([model.predict(x_ND)[:, 1] for model in models], axis=1), converged)


class RidgeSolver:
    """min |y - x w - b|^2 + |w|^2 / C, in closed form from one singular value decomposition for all strengths."""

    def __init__(self, x_ND: Array, labels_NC: NDArray, weights_N: Array, n: int) -> None:
        y_NC = labels_NC.astype(np.float64)
        self.mean_x_D, self.mean_y_C = (np.average(of, axis=0, weights=weights_N) for of in (x_ND, y_NC))
        spread_C = np.sqrt(np.average((y_NC - self.mean_y_C) ** 2, axis=0, weights=weights_N))
        if (np.ptp(y_NC, axis=0) == 0).all():
            raise DataError("probe: the training cases all have the same values, so there is nothing to predict")
        # scaled, so that one strength means the same for each quantity
        self.scale_C = np.where(np.ptp(y_NC, axis=0) > 0, spread_C, 1)
        root_N1 = np.sqrt(weights_N)[:, None]
        left_NK, self.singular_K, self.right_KD = np.linalg.svd(root_N1 * (x_ND - self.mean_x_D), full_matrices=False)
        self.projected_KC = left_NK.T @ (root_N1 * (y_NC - self.mean_y_C) / self.scale_C)

    def at(self, strength: float, tried: bool = False) -> Fit:
        shrunk_K1 = (self.singular_K / (self.singular_K**2 + 1 / strength))[:, None]
        weights_DC = self.right_KD.T @ (shrunk_K1 * self.projected_KC) * self.scale_C
        offset_C = self.mean_y_C - self.mean_x_D @ weights_DC
        return Fit(lambda x_ND: x_ND @ weights_DC + offset_C)


# a fitted probe: whether the fit converged, and (N, D) features -> (N, C) probabilities or numbers in the labels' units
Model = Classifier | Constant | Fit
# made of features (float64), labels, weights of the cases (mean 1), and the number of classes, labels or quantities
SOLVERS: dict[Kind, Callable[[Array, NDArray, Array, int], Solver]] = {
    "classes": ClassSolver,
    "multilabel": LabelSolver,
    "regression": RidgeSolver,
}

STRENGTHS = tuple(float(s) for s in np.logspace(-4, 4, 9))
# strengths in a row whose validation loss is above the least, after which no weaker regularisation is tried
RISES = 2
# shares of the least loss on validation: above it, of a strength that is tried, within which it may be chosen; and of
# losses at the optimum that count as equal
NEAR, EQUAL = 5e-3, 1e-6

Weights = tuple[Array, Array]  # of the training and of the validation cases


@dataclass(frozen=True)
class Probe:
    """A fitted probe.

    Attributes:
        strength: the C that was chosen (inverse regularisation), the smallest of equals.
        validation: C -> loss on validation (`scores.loss`) of every C tried, ascending; far from the least,
            approximate.
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
    """The probe of the labels' kind (see the module), its C of the least loss on validation.

    C is raised from the strongest regularisation on, until the loss has been above the least `RISES` times in a row.

    Args:
        train_labels, val_labels: see `evaluation.scores`. n: number of classes, labels or quantities.
        weights: of the cases, in the fit and in the validation loss, on any scale; see `balanced`. Default: all alike.
        refit_on_val: fit again on train + validation with the chosen C; see `CommCompat`. (The penalty of CoMM's
            released code is the norm, not squared; that is not brought back.)
        scaled_by: embeddings whose mean and spread scale the features; default: train.

    Raises DataError: no validation cases, embeddings that are not finite or of two widths, or labels that do not vary.
    """
    _check(train_ND, train_labels, val_ND, val_labels)
    if not strengths:
        raise DataError("probe: no regularisation strengths to choose from")
    train_N, val_N = weights or (np.ones(len(train_ND)), np.ones(len(val_ND)))
    scaler = StandardScaler().fit((train_ND if scaled_by is None else scaled_by).astype(np.float64))
    x_ND, v_ND = (scaler.transform(z_ND.astype(np.float64)) for z_ND in (train_ND, val_ND))
    solver = SOLVERS[kind](x_ND, train_labels, train_N / train_N.mean(), n)
    losses: dict[float, float] = {}

    def validate(strength: float, tried: bool) -> None:
        losses[strength] = loss(kind, val_labels, solver.at(strength, tried).predict(v_ND), val_N)

    for strength in sorted(strengths):
        validate(strength, tried=True)
        best = min(losses, key=losses.__getitem__)
        if len(losses) - list(losses).index(best) > RISES:
            break
    optimal: set[float] = set()
    while near := [s for s in losses if s not in optimal and losses[s] <= min(losses.values()) * (1 + NEAR)]:
        for strength in near:
            validate(strength, tried=False)
        optimal |= set(near)
    best = next(s for s in losses if s in optimal and losses[s] <= min(losses.values()) * (1 + EQUAL))
    if refit_on_val:
        both = [np.concatenate(parts) for parts in ((x_ND, v_ND), (train_labels, val_labels), (train_N, val_N))]
        solver = SOLVERS[kind](both[0], both[1], both[2] / both[2].mean(), n)
    model = solver.at(best)
    return Probe(scaler, model, best, losses, model.converged)


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
