"""Multinomial logistic regression with an L2 penalty, to its optimum, in unknowns in which the Hessian is the identity.

Of at most LARGEST_HESSIAN unknowns that is the Hessian at the weights: Newton's steps, as long as they lead on, and
where they do not L-BFGS to where the Hessian is taken anew. A line search sees the loss, and ends where that no longer
changes; Newton's last steps see the gradient alone. Of more unknowns it is the Hessian where all classes are equally
probable, of which the diagonal is enough, and L-BFGS.

Shapes: N cases, K features and a constant one, C classes. What is of classes comes first: sums over a short last axis
would take longer than the products.
"""

from collections.abc import Callable
from functools import partial
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import OptimizeResult, minimize

Array = NDArray[np.floating]

LARGEST_HESSIAN, MOST_HESSIANS, MOST_STEPS, MOST_STEPS_BY_SCALE = 1500, 50, 100, 20_000
OUT_OF_STEPS = 1  # of scipy's results
LBFGS: dict[str, Any] = {"ftol": 0, "maxcor": 10, "maxfun": 30_000}
# added to the diagonal of the Hessian, as a share of its largest element: to all intercepts alike a number can be
# added, and there is rounding
RIDGE = 1e-10
# largest component of the gradient by the unknowns, as a share of the loss: near the optimum and at it
NEAR, OPTIMUM = 3e-4, 1e-8
# and of unknowns by the Hessian at the weights, half of whose square is what the loss is above the least, as a share of
# its root: where Newton's steps may lead on, and at the optimum
CLOSE, ROOT_OPTIMUM = 1e-4, 1e-8

Change = Callable[[Array], Array]
# from weights to unknowns, from unknowns to weights, and from the gradient by weights to that by unknowns
Units = tuple[Change, Change, Change]


class Logistic:
    """The mean loss over the cases plus |weights|^2 / (2 * strength * N); intercepts are free.

    Of two classes the first has no weights, as the difference alone counts.
    """

    def __init__(self, x_NK: Array, labels_N: NDArray[np.integer], weights_N: Array, classes: int) -> None:
        """x_NK: without the constant. labels_N: 0 to classes - 1. weights_N: of the cases, of mean 1."""
        self.n, self.classes, self.free = len(x_NK), classes, slice(1 if classes == 2 else 0, None)
        self.x_NK = np.column_stack([x_NK, np.ones(self.n)])
        self.share_N, self.right = weights_N / self.n, labels_N * self.n + np.arange(self.n)
        self.unknowns = len(range(classes)[self.free]) * self.x_NK.shape[1]
        self.factorised = self.unknowns <= LARGEST_HESSIAN

    def near(self, strength: float, start: Array | None) -> tuple[Array, bool]:
        """(K, C) weights, the last row the intercepts, and whether they are near the optimum: to compare strengths."""
        if not self.factorised:
            # in single precision, which takes half the time
            objective = _Objective(self, strength, start, np.float32)
            found = objective.descend(objective.by_scale(), NEAR * objective.loss(), MOST_STEPS_BY_SCALE)
            return objective.weights(), bool(np.abs(found.jac).max() <= NEAR * found.fun)
        objective = _Objective(self, strength, start, np.float64)
        for _ in range(MOST_HESSIANS):
            found = objective.descend(objective.by_hessian(), CLOSE * float(np.sqrt(objective.loss())), MOST_STEPS)
            if found.status != OUT_OF_STEPS:
                break
        return objective.weights(), found.status != OUT_OF_STEPS

    def optimum(self, strength: float, start: Array | None) -> tuple[Array, bool]:
        """(K, C) weights, and whether they are at the optimum."""
        objective = _Objective(self, strength, start, np.float64)
        if not self.factorised:
            tolerance = OPTIMUM * objective.loss()
            left = np.abs(objective.descend(objective.by_scale(), tolerance, MOST_STEPS_BY_SCALE).jac).max()
        for _ in range(MOST_HESSIANS if self.factorised else 0):
            units = objective.by_hessian()
            left, loss = objective.newton(units)
            tolerance = ROOT_OPTIMUM * float(np.sqrt(loss))
            if left <= 100 * tolerance:
                break
            objective.descend(units, CLOSE * float(np.sqrt(loss)), MOST_STEPS)
        # rounding may end it before
        return objective.weights(), bool(left <= 100 * tolerance)


class _Objective:
    """The loss at weights, which `descend` moves."""

    def __init__(self, of: Logistic, strength: float, start: Array | None, kind: type[np.floating]) -> None:
        self.of, self.kind = of, kind
        self.x_NK, self.share_N = of.x_NK.astype(kind), of.share_N.astype(kind)
        self.x_KN = np.ascontiguousarray(self.x_NK.T)
        self.penalty_K = np.append(np.full(len(self.x_KN) - 1, 1 / (strength * of.n)), 0)
        self.all_CK = np.zeros((of.classes, len(self.x_KN))) if start is None else start.T.copy(order="C")
        self.free_CK = self.all_CK[of.free]

    def weights(self) -> Array:
        return self.all_CK.T

    def loss(self) -> float:
        return self.terms()[0]

    def terms(self) -> tuple[float, Array, Array]:
        """The loss, its gradient by the weights, flat, and the probabilities (C, N)."""
        z_CN: NDArray[Any] = self.all_CK.astype(self.kind) @ self.x_KN
        z_CN -= z_CN.max(axis=0)
        right_N = z_CN.ravel()[self.of.right]
        total_N = np.exp(z_CN, out=z_CN).sum(axis=0)
        loss = self.share_N @ (np.log(total_N) - right_N) + (self.penalty_K * self.free_CK**2).sum() / 2
        z_CN /= total_N
        apart_CN = z_CN.copy()
        apart_CN.ravel()[self.of.right] -= 1
        apart_CN *= self.share_N
        gradient_CK = apart_CN[self.of.free] @ self.x_NK + self.penalty_K * self.free_CK
        return float(loss), gradient_CK.ravel(), z_CN

    def by_scale(self) -> Units:
        """Units in which the Hessian is about the identity where all classes are equally probable."""
        root_K = np.sqrt((self.share_N * self.x_KN**2).sum(1) / self.of.classes + self.penalty_K)
        root = np.tile(root_K, len(self.free_CK))
        return (lambda at: at * root), (lambda at: at / root), (lambda at: at / root)

    def by_hessian(self) -> Units:
        """Units in which the Hessian is the identity at the weights."""
        c, k = self.free_CK.shape
        probs_CN = self.terms()[2][self.of.free]
        hessian = np.zeros((c, k, c, k))
        for a, b in combinations_with_replacement(range(c), 2):
            curvature_N = self.share_N * probs_CN[a] * ((a == b) - probs_CN[b])
            hessian[b, :, a] = (self.x_KN * curvature_N) @ self.x_NK + np.diag((a == b) * self.penalty_K)
        square, diagonal = hessian.reshape(c * k, c * k), np.diag_indices(c * k)
        square[diagonal] += RIDGE * square[diagonal].max()
        lower = cholesky(square, lower=True, overwrite_a=True, check_finite=False)
        solve = partial(solve_triangular, lower, lower=True, check_finite=False)
        return lower.T.__matmul__, partial(solve, trans="T"), solve

    def newton(self, units: Units) -> tuple[float, float]:
        """Newton's steps, as long as each halves the gradient: its largest component in the end, and the loss."""
        (into, back, slope_by), least = units, np.inf
        while True:
            loss, slope, _ = self.terms()
            step = slope_by(slope)
            if not (left := float(np.abs(step).max())) < least / 2:
                break
            kept, least, least_loss = self.free_CK.copy(), left, loss
            self.free_CK.ravel()[:] = back(into(kept.ravel()) - step)
        self.free_CK[:] = kept
        return least, least_loss

    def descend(self, units: Units, tolerance: float, steps: int) -> OptimizeResult:
        """Move the weights by L-BFGS until no component of the gradient by the unknowns is above the tolerance."""
        into, back, slope_by = units

        def at(unknowns: Array) -> tuple[float, Array]:
            self.free_CK.ravel()[:] = back(unknowns)
            loss, slope, _ = self.terms()
            return loss, slope_by(slope)

        options = LBFGS | {"gtol": tolerance, "maxiter": steps}
        found = minimize(at, into(self.free_CK.ravel()), jac=True, method="L-BFGS-B", options=options)
        self.free_CK.ravel()[:] = back(found.x)
        return found
