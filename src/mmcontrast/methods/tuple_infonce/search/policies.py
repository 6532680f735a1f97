"""What a search tries next: a Gaussian policy that climbs the reward (REINFORCE), or a grid.

Both are asked for a round's settings and told a reward for each; given the same rewards they go the same way bit for
bit, so that a search is resumed by telling them again what it had found.

Shapes: P searched numbers, n trials per round.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mmcontrast.errors import TrainingError
from mmcontrast.methods.tuple_infonce.objective import GridSearch, ReinforceSearch, StrengthSearch

Array = np.ndarray


def advantages(rewards: Sequence[float], eps: float = 1e-8) -> Array:
    """(R - mean) / (std + eps) with the population's std; all 0 where every reward is the same."""
    r = np.asarray(rewards, float)
    return (r - r.mean()) / (r.std() + eps)


def reinforce_gradient(raw: Array, mean: Array, sigma: float, signal: Array) -> Array:
    """(P,) estimate of d E[R] / d mean for theta ~ N(mean, sigma^2 I): mean of signal * (theta - mean) / sigma^2.

    Args:
        raw: (n, P) draws BEFORE clipping, which keeps the estimate unbiased. signal: (n,) rewards or advantages.
    """
    return (signal[:, None] * (raw - mean)).mean(0) / sigma**2


class Reinforce:
    """Gaussian policy over the searched numbers; its mean climbs the reward.

    Draws come in antithetic pairs (mean + sigma e, mean - sigma e): what the two share cancels from the gradient.

    Args:
        spec: rounds, draws and step size; what is trained with is clipped to its range. mean: P starting values.
    """

    def __init__(self, spec: ReinforceSearch | StrengthSearch, mean: Sequence[float], seed: int) -> None:
        self.spec, self.rounds = spec, spec.rounds
        self.mean = np.asarray(mean, float)
        self.round = 0
        self.moments = [np.zeros_like(self.mean), np.zeros_like(self.mean)]
        self.open: Array | None = None
        self.rng = np.random.Generator(np.random.PCG64(seed))

    @property
    def value(self) -> list[float]:
        """The mean: the setting believed best so far."""
        return [float(x) for x in self.mean]

    @property
    def finished(self) -> bool:
        """No round is left."""
        return self.round >= self.rounds

    def ask(self) -> list[list[float]]:
        """The round's settings, clipped draws: the same answer until `tell` closes the round."""
        spec = self.spec
        if self.open is None:
            half = self.rng.standard_normal((spec.trials // 2, len(self.mean)))
            self.open = self.mean + spec.sigma * np.stack([half, -half], axis=1).reshape(spec.trials, -1)
        return [[float(x) for x in row] for row in self.open.clip(spec.low, spec.high)]

    def tell(self, rewards: Sequence[float]) -> None:
        """One step of the mean along the advantage-weighted gradient, or Adam's on it; it stays within the range.

        Raises:
            TrainingError: a reward is not finite.
        """
        if self.open is None:
            raise ValueError("rewards without an open round: call ask() first")
        _check_rewards(rewards, self.spec.trials)
        gradient = reinforce_gradient(self.open, self.mean, self.spec.sigma, advantages(rewards))
        self.round += 1
        step = gradient
        if self.spec.optimizer == "adam":
            first, second = self.moments
            self.moments = [0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2]
            corrected = [m / (1 - b**self.round) for m, b in zip(self.moments, (0.9, 0.999), strict=True)]
            step = corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
        self.mean = (self.mean + self.spec.rate * step).clip(self.spec.low, self.spec.high)
        self.open = None


class Grid:
    """Every value of a grid, the best kept; the earlier one wins a tie.

    Shared: one round, all P numbers equal; coordinate: P rounds, one number at a time, the others at their best.

    Args:
        spec: values and mode. start: P starting values, the best before any round.
    """

    def __init__(self, spec: GridSearch, start: Sequence[float]) -> None:
        self.values, self.shared = spec.values, spec.mode == "shared"
        self.value = [float(s) for s in start]
        self.rounds = 1 if self.shared else len(self.value)
        self.round = 0

    @property
    def finished(self) -> bool:
        """No round is left."""
        return self.round >= self.rounds

    def ask(self) -> list[list[float]]:
        """The round's settings, one per value of the grid."""
        if self.shared:
            return [[v] * len(self.value) for v in self.values]
        return [[v if p == self.round else b for p, b in enumerate(self.value)] for v in self.values]

    def tell(self, rewards: Sequence[float]) -> None:
        """Keep the best setting of the round. Raises TrainingError: a reward is not finite."""
        _check_rewards(rewards, len(self.values))
        self.value = self.ask()[int(np.argmax(rewards))]
        self.round += 1


Proposer = Reinforce | Grid


def _check_rewards(rewards: Sequence[float], n: int) -> None:
    if len(rewards) != n:
        raise ValueError(f"{len(rewards)} rewards for {n} settings")
    if not all(math.isfinite(r) for r in rewards):
        raise TrainingError(
            f"a reward of the sample search is not finite ({list(rewards)}); "
            "lower the learning rate, or narrow the range that is searched"
        )
