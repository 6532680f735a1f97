"""What a linear probe is for each kind of target, at a given strength of its regularisation (inverse, called C).

classes: multinomial logistic regression. multilabel: a logistic regression for each label, all of one strength.
regression: ridge regression of all quantities, each scaled to unit variance, of one strength.

Shapes: N cases, D width of the embedding, C classes, labels or quantities. Features are scaled already.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from mmcontrast.config.metrics import Kind
from mmcontrast.errors import DataError

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Options:
    """n: classes, labels or quantities. class_weight: balanced = each class weighs alike. weights: (N,) of the cases.

    Weights of either kind are of classes alone.
    """

    n: int
    class_weight: Literal["balanced"] | None = None
    max_iter: int = 1000
    weights: Array | None = None


class Model(Protocol):
    """A fitted probe."""

    @property
    def converged(self) -> bool:
        """Whether the fit did."""
        ...

    def predict(self, x_ND: Array) -> Array:
        """(N, C) probabilities, or numbers in the units of the labels."""
        ...


class Solver(Protocol):
    """The training cases of a probe."""

    def at(self, strength: float) -> Model:
        """The fit at a strength; called with rising strengths, a solver may start from the last fit."""
        ...


@dataclass(frozen=True)
class Logistic:
    """Probabilities of classes; 0 for a class that train did not have."""

    model: LogisticRegression
    n: int
    converged: bool

    def predict(self, x_ND: Array) -> Array:
        probs_NC = np.zeros((len(x_ND), self.n))
        probs_NC[:, self.model.classes_] = self.model.predict_proba(x_ND)
        return probs_NC


class ClassSolver:
    """See the module."""

    def __init__(self, x_ND: Array, labels_N: NDArray, options: Options) -> None:
        if len(np.unique(labels_N)) < 2:
            raise DataError("probe: the training cases are all of one class, so there is nothing to tell apart")
        self.x_ND, self.labels_N, self.options = x_ND, labels_N, options
        self.start: LogisticRegression | None = None

    def at(self, strength: float) -> Logistic:
        options, start = self.options, self.start
        model = LogisticRegression(
            C=strength, class_weight=options.class_weight, max_iter=options.max_iter, warm_start=start is not None
        )
        if start is not None:
            model.classes_, model.coef_, model.intercept_ = start.classes_, start.coef_.copy(), start.intercept_.copy()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            model.fit(self.x_ND, self.labels_N, sample_weight=options.weights)
        self.start = model
        return Logistic(model, options.n, not any(issubclass(w.category, ConvergenceWarning) for w in caught))


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

    def at(self, strength: float) -> Constant:
        """It is the same at every strength."""
        return self


class LabelSolver:
    """See the module."""

    def __init__(self, x_ND: Array, labels_NC: NDArray, options: Options) -> None:
        two = Options(2, max_iter=options.max_iter)
        self.solvers: list[Solver] = [
            Constant(int(y_N[0])) if (y_N == y_N[0]).all() else ClassSolver(x_ND, y_N, two)
            for y_N in labels_NC.astype(np.int64).T
        ]
        if all(isinstance(solver, Constant) for solver in self.solvers):
            raise DataError("probe: the training cases all have the same labels, so there is nothing to tell apart")

    def at(self, strength: float) -> LogisticByLabel:
        return LogisticByLabel([solver.at(strength) for solver in self.solvers])


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

    def __init__(self, x_ND: Array, labels_NC: NDArray, options: Options) -> None:
        x_ND, y_NC = x_ND.astype(np.float64), labels_NC.astype(np.float64)
        self.mean_x_D, self.mean_y_C, spread_C = x_ND.mean(0), y_NC.mean(0), y_NC.std(0)
        if (spread_C == 0).all():
            raise DataError("probe: the training cases all have the same values, so there is nothing to predict")
        # scaled, so that one strength means the same for each quantity
        self.scale_C = np.where(spread_C > 0, spread_C, 1)
        left_NK, self.singular_K, self.right_KD = np.linalg.svd(x_ND - self.mean_x_D, full_matrices=False)
        self.projected_KC = left_NK.T @ ((y_NC - self.mean_y_C) / self.scale_C)

    def at(self, strength: float) -> Ridge:
        shrunk_K1 = (self.singular_K / (self.singular_K**2 + 1 / strength))[:, None]
        weights_DC = self.right_KD.T @ (shrunk_K1 * self.projected_KC) * self.scale_C
        return Ridge(weights_DC, self.mean_y_C - self.mean_x_D @ weights_DC)


SOLVERS: dict[Kind, Callable[[Array, NDArray, Options], Solver]] = {
    "classes": ClassSolver,
    "multilabel": LabelSolver,
    "regression": RidgeSolver,
}
