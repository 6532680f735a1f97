"""What a linear probe is for each kind of target, at a given strength of its regularisation (inverse, called C).

classes: multinomial logistic regression. multilabel: a logistic regression for each label, all of one strength.
regression: ridge regression of all quantities, each scaled to unit variance, of one strength.

The chosen one is solved to its optimum, so that a score is a property of the embeddings and of nothing else: a solver
that stops early leaves a model that depends on the rounding of matrix products, which differs between processors.

Shapes: N cases, D width of the embedding, C classes, labels or quantities, K = min(N, D). Features are scaled already.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from mmcontrast.config.metrics import Kind
from mmcontrast.errors import DataError

Array = NDArray[np.floating]

# Side of the largest Hessian, (C, or 1 of two classes) * (K + 1), that is factorised. Above it strengths are tried by
# L-BFGS, as far as choosing one needs, and the chosen fit is taken to its optimum by conjugate gradients.
LARGEST_HESSIAN = 1500
FACTORISED: dict[str, Any] = {"solver": "newton-cholesky", "tol": 1e-10, "max_iter": 100}
TRIED: dict[str, Any] = {"solver": "lbfgs", "tol": 1e-5, "max_iter": 20_000}
REFINED: dict[str, Any] = {"solver": "newton-cg", "tol": 1e-8, "max_iter": 1000}


class Solver(Protocol):
    """The training cases of a probe."""

    def at(self, strength: float, chosen: bool = False) -> Model:
        """The fit at a strength, to its optimum where it is the chosen one; it may start from fits before."""
        ...


@dataclass(frozen=True)
class Logistic:
    """Probabilities of classes; 0 for a class that train did not have."""

    model: LogisticRegression
    basis: Array | None  # (D, K)
    n: int
    converged: bool

    def predict(self, x_ND: Array) -> Array:
        probs_NC = np.zeros((len(x_ND), self.n))
        z_NK = x_ND if self.basis is None else x_ND @ self.basis
        probs_NC[:, self.model.classes_] = self.model.predict_proba(z_NK)
        return probs_NC


class ClassSolver:
    """See the module. Of fewer cases than features, the weights are found in the span of the cases, where they lie."""

    def __init__(self, x_ND: Array, labels_N: NDArray, weights_N: Array, n: int) -> None:
        n_classes = len(np.unique(labels_N))
        if n_classes < 2:
            raise DataError("probe: the training cases are all of one class, so there is nothing to tell apart")
        self.basis = np.linalg.qr(x_ND.T)[0] if x_ND.shape[0] < x_ND.shape[1] else None
        self.x_NK = x_ND if self.basis is None else x_ND @ self.basis
        self.labels_N, self.weights_N, self.n = labels_N, weights_N, n
        self.factorised = (n_classes if n_classes > 2 else 1) * (self.x_NK.shape[1] + 1) <= LARGEST_HESSIAN
        self.fits: dict[float, Logistic] = {}

    def at(self, strength: float, chosen: bool = False) -> Logistic:
        found = self.fits.get(strength)
        if found is not None and self.factorised:
            return found
        how = FACTORISED if self.factorised else REFINED if chosen else TRIED
        last = found or next(reversed(self.fits.values()), None)
        model = LogisticRegression(C=strength, warm_start=last is not None, **how)
        if last is not None:
            start = last.model
            model.classes_, model.coef_, model.intercept_ = start.classes_, start.coef_.copy(), start.intercept_.copy()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            model.fit(self.x_NK, self.labels_N, self.weights_N)
        converged = not any(issubclass(w.category, ConvergenceWarning) for w in caught)
        self.fits[strength] = Logistic(model, self.basis, self.n, converged)
        return self.fits[strength]


@dataclass(frozen=True)
class LogisticByLabel:
    """Probabilities of labels."""

    models: list[Model]

    @property
    def converged(self) -> bool:
        return all(model.converged for model in self.models)

    def predict(self, x_ND: Array) -> Array:
        return np.stack([model.predict(x_ND)[:, 1] for model in self.models], axis=1)


@dataclass(frozen=True)
class Constant:
    """Of a label that all training cases have, or none has."""

    label: int
    converged: bool = True

    def predict(self, x_ND: Array) -> Array:
        return np.tile(np.eye(2)[self.label], (len(x_ND), 1))

    def at(self, strength: float, chosen: bool = False) -> Constant:
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

    def at(self, strength: float, chosen: bool = False) -> LogisticByLabel:
        return LogisticByLabel([solver.at(strength, chosen) for solver in self.solvers])


@dataclass(frozen=True)
class Ridge:
    """Numbers in the units of the labels."""

    weights: Array  # (D, C)
    offset: Array  # (C,)
    converged: bool = True

    def predict(self, x_ND: Array) -> Array:
        predicted: Array = x_ND @ self.weights + self.offset
        return predicted


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

    def at(self, strength: float, chosen: bool = False) -> Ridge:
        shrunk_K1 = (self.singular_K / (self.singular_K**2 + 1 / strength))[:, None]
        weights_DC = self.right_KD.T @ (shrunk_K1 * self.projected_KC) * self.scale_C
        return Ridge(weights_DC, self.mean_y_C - self.mean_x_D @ weights_DC)


# a fitted probe: whether the fit converged, and (N, D) features -> (N, C) probabilities or numbers in the labels' units
Model = Logistic | LogisticByLabel | Constant | Ridge
# made of features (float64), labels, weights of the cases (mean 1), and the number of classes, labels or quantities
SOLVERS: dict[Kind, Callable[[Array, NDArray, Array, int], Solver]] = {
    "classes": ClassSolver,
    "multilabel": LabelSolver,
    "regression": RidgeSolver,
}
