"""Linear probe: what a linear map reads from frozen embeddings.

Features are scaled by train; the strength of the regularisation is the one of the least loss on validation, which is
continuous: an accuracy moves in steps, and the last bit would decide between two strengths. The test split is not an
argument here, it is scored afterwards, once, with `predict`.

classes: multinomial logistic regression. multilabel: a logistic regression for each label, all of one strength.
regression: ridge regression of all quantities, each scaled to unit variance, of one strength. The chosen one is solved
to its optimum, so that a score is a property of the embeddings and of nothing else: a solver that stops early leaves a
model that depends on the rounding of matrix products, which differs between processors.

Shapes: N cases, D width of the embedding, C classes, labels or quantities, K = min(N, D). To solvers features come
scaled; a strength is inverse, and called C.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mmcontrast.config.metrics import Kind
from mmcontrast.errors import DataError
from mmcontrast.evaluation.scores import loss

Array = NDArray[np.floating]

# Side of the largest Hessian, (C, or 1 of two classes) * (K + 1), that is factorised: at every strength where that is
# faster, as of small ones and of many cases. Else strengths are tried by L-BFGS, as far as choosing one needs, and the
# chosen fit is taken to its optimum, by conjugate gradients where the Hessian is larger.
LARGEST_HESSIAN = 1500
SMALL_HESSIAN, MANY_CASES = 300, 4  # many: so many times the side
FACTORISED: dict[str, Any] = {"solver": "newton-cholesky", "tol": 1e-10, "max_iter": 100}
TRIED: dict[str, Any] = {"solver": "lbfgs", "tol": 1e-5, "max_iter": 20_000}
REFINED: dict[str, Any] = {"solver": "newton-cg", "tol": 1e-8, "max_iter": 1000}
Fits = dict[float, tuple[LogisticRegression, bool]]  # strength -> a fit, and whether it converged


@dataclass(frozen=True)
class Fit:
    """A probe at a strength.

    Attributes:
        predict: (N, D) features -> (N, C) probabilities, 0 for a class that train did not have; of regression numbers
            in the labels' units.
    """

    predict: Callable[[Array], Array]
    converged: bool = True


class Solver(Protocol):
    """The training cases of a probe."""

    def at(self, strength: float, chosen: bool = False) -> Fit:
        """The fit at a strength, to its optimum where it is the chosen one; it may start from fits before."""
        ...


class ClassSolver:
    """See the module. Of fewer cases than features, the weights are found in the span of the cases, where they lie."""

    def __init__(self, x_ND: Array, labels_N: NDArray, weights_N: Array, n: int) -> None:
        n_classes = len(np.unique(labels_N))
        if n_classes < 2:
            raise DataError("probe: the training cases are all of one class, so there is nothing to tell apart")
        self.basis = np.linalg.qr(x_ND.T)[0] if x_ND.shape[0] < x_ND.shape[1] else None
        self.x_NK = x_ND if self.basis is None else x_ND @ self.basis
        self.labels_N, self.weights_N, self.n = labels_N, weights_N, n
        side = (n_classes if n_classes > 2 else 1) * (self.x_NK.shape[1] + 1)
        newton = side <= LARGEST_HESSIAN
        faster = newton and (side <= SMALL_HESSIAN or len(x_ND) >= MANY_CASES * side)
        self.ways = FACTORISED if faster else TRIED, FACTORISED if newton else REFINED
        cases = b"".join(np.ascontiguousarray(of).tobytes() for of in (x_ND, labels_N, weights_N))
        self.tried, self.refined = _fits(sha256(cases).digest(), n, newton, faster)

    def at(self, strength: float, chosen: bool = False) -> Fit:
        refining = chosen and self.ways[0] is not self.ways[1]
        fits, how = (self.refined if refining else self.tried), self.ways[refining]
        if strength not in fits:
            fits[strength] = self._fitted(strength, how)
        model, converged = fits[strength]

        def predict(x_ND: Array) -> Array:
            probs_NC = np.zeros((len(x_ND), self.n))
            probs_NC[:, model.classes_] = model.predict_proba(x_ND if self.basis is None else x_ND @ self.basis)
            return probs_NC

        return Fit(predict, converged)

    def _fitted(self, strength: float, how: Mapping[str, Any]) -> tuple[LogisticRegression, bool]:
        start, _ = self.tried.get(strength) or next(reversed(self.tried.values()), (None, False))
        model = LogisticRegression(C=strength, warm_start=start is not None, **how)
        if start is not None:
            model.classes_, model.coef_, model.intercept_ = start.classes_, start.coef_.copy(), start.intercept_.copy()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            model.fit(self.x_NK, self.labels_N, self.weights_N)
        return model, not any(issubclass(w.category, ConvergenceWarning) for w in caught)


@lru_cache(maxsize=256)
def _fits(cases: bytes, n: int, newton: bool, faster: bool) -> tuple[Fits, Fits]:
    """Fits of equal cases, which tasks and seeds may share, by strength: those tried, and those refined."""
    return {}, {}


class ConstantSolver:
    """Of a label that all training cases have, or none has; the same at every strength."""

    def __init__(self, label: int) -> None:
        self.label = label

    def at(self, strength: float, chosen: bool = False) -> Fit:
        return Fit(lambda x_ND: np.tile(np.eye(2)[self.label], (len(x_ND), 1)))


class LabelSolver:
    """See the module."""

    def __init__(self, x_ND: Array, labels_NC: NDArray, weights_N: Array, n: int) -> None:
        self.solvers: list[Solver] = [
            ConstantSolver(int(y_N[0])) if (y_N == y_N[0]).all() else ClassSolver(x_ND, y_N, weights_N, 2)
            for y_N in labels_NC.astype(np.int64).T
        ]
        if all(isinstance(solver, ConstantSolver) for solver in self.solvers):
            raise DataError("probe: the training cases all have the same labels, so there is nothing to tell apart")

    def at(self, strength: float, chosen: bool = False) -> Fit:
        fits = [solver.at(strength, chosen) for solver in self.solvers]
        return Fit(
            lambda x_ND: np.stack([fit.predict(x_ND)[:, 1] for fit in fits], axis=1), all(fit.converged for fit in fits)
        )


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

    def at(self, strength: float, chosen: bool = False) -> Fit:
        shrunk_K1 = (self.singular_K / (self.singular_K**2 + 1 / strength))[:, None]
        weights_DC = self.right_KD.T @ (shrunk_K1 * self.projected_KC) * self.scale_C
        offset_C = self.mean_y_C - self.mean_x_D @ weights_DC
        return Fit(lambda x_ND: x_ND @ weights_DC + offset_C)


# made of features (float64), labels, weights of the cases (mean 1), and the number of classes, labels or quantities
SOLVERS: dict[Kind, Callable[[Array, NDArray, Array, int], Solver]] = {
    "classes": ClassSolver,
    "multilabel": LabelSolver,
    "regression": RidgeSolver,
}

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
    """

    scaler: StandardScaler
    fit: Fit
    strength: float
    validation: dict[float, float]

    @property
    def converged(self) -> bool:
        """Whether the chosen fit did."""
        return self.fit.converged

    def predict(self, z_ND: Array) -> Array:
        """(N, C) probabilities, 0 for a class that train did not have; of regression numbers in the data's units."""
        return self.fit.predict(self.scaler.transform(z_ND.astype(np.float64)))


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
    return Probe(scaler, solver.at(best, chosen=True), best, validation)


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
