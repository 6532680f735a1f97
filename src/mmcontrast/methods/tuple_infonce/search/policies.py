"""What a search tries next: a Gaussian policy that climbs the reward (REINFORCE), or a grid, behind one interface.

State is plain JSON, whose floats survive a round trip exactly: a search resumed from it goes on bit for bit.

Shapes: P searched numbers, n trials per round.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from mmcontrast.errors import TrainingError

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


class Proposer(Protocol):
    """What is tried in each round, and what is learned from it."""

    @property
    def value(self) -> list[float]:
        """The setting believed best so far."""

    @property
    def finished(self) -> bool:
        """No round is left."""

    def ask(self) -> list[list[float]]:
        """The round's settings: the same answer until `tell` closes the round."""

    def tell(self, rewards: Sequence[float]) -> None:
        """One reward a setting, in the order of `ask`; opens the next round."""

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON; draws of an open round included."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""


class Reinforce:
    """Gaussian policy over the searched numbers; its mean climbs the reward.

    Draws come in antithetic pairs (mean + sigma e, mean - sigma e): what the two share cancels from the gradient.

    Args:
        mean: P starting values. sigma: standard deviation of the draws. rounds: rounds to run.
        trials: settings per round; even. rate: step size eta. low, high: what is trained with is clipped to these.
        seed: of the draws. optimizer: plain (mean += rate * gradient) or Adam on it (the released code, rate .25).
    """

    def __init__(
        self,
        mean: Sequence[float],
        sigma: float,
        rounds: int,
        trials: int = 4,
        rate: float = 0.1,
        low: float = 0.0,
        high: float = 4.0,
        seed: int = 0,
        optimizer: Literal["plain", "adam"] = "plain",
    ) -> None:
        if trials < 2 or trials % 2:
            raise ValueError(f"trials: {trials}; antithetic draws need an even number of at least 2")
        if sigma <= 0 or rate <= 0 or rounds < 1 or not low < high:
            raise ValueError("sigma and rate must be above 0, rounds at least 1, low below high")
        if not len(mean) or not all(low <= m <= high for m in mean):
            raise ValueError(f"mean: {list(mean)}; start within [{low}, {high}]")
        self.sigma, self.rate, self.rounds, self.trials = sigma, rate, rounds, trials
        self.low, self.high, self.optimizer = low, high, optimizer
        self.mean = np.asarray(mean, float)
        self.round = 0
        self.moments = [np.zeros_like(self.mean), np.zeros_like(self.mean)]
        self.open: Array | None = None
        self.rng = np.random.Generator(np.random.PCG64(seed))

    @property
    def value(self) -> list[float]:
        """The mean."""
        return [float(x) for x in self.mean]

    @property
    def finished(self) -> bool:
        """All rounds are told."""
        return self.round >= self.rounds

    def ask(self) -> list[list[float]]:
        """`trials` draws, clipped."""
        if self.open is None:
            half = self.rng.standard_normal((self.trials // 2, len(self.mean)))
            self.open = self.mean + self.sigma * np.stack([half, -half], axis=1).reshape(self.trials, -1)
        return [[float(x) for x in row] for row in self.open.clip(self.low, self.high)]

    def tell(self, rewards: Sequence[float]) -> None:
        """One step of the mean along the advantage-weighted gradient; the mean stays within [low, high]."""
        if self.open is None:
            raise ValueError("rewards without an open round: call ask() first")
        _check_rewards(rewards, self.trials)
        gradient = reinforce_gradient(self.open, self.mean, self.sigma, advantages(rewards))
        self.round += 1
        step = gradient
        if self.optimizer == "adam":
            first, second = self.moments
            self.moments = [0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2]
            corrected = [m / (1 - b**self.round) for m, b in zip(self.moments, (0.9, 0.999), strict=True)]
            step = corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
        self.mean = (self.mean + self.rate * step).clip(self.low, self.high)
        self.open = None

    def state_dict(self) -> dict[str, Any]:
        """See `Proposer`."""
        return {
            "mean": self.mean.tolist(),
            "round": self.round,
            "moments": [m.tolist() for m in self.moments],
            "open": None if self.open is None else self.open.tolist(),
            "rng": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Proposer`."""
        self.mean = np.asarray(state["mean"], float)
        self.round = state["round"]
        self.moments = [np.asarray(m, float) for m in state["moments"]]
        self.open = None if state["open"] is None else np.asarray(state["open"], float)
        self.rng.bit_generator.state = state["rng"]


class GridSearch:
    """Every value of a grid, the best kept; the earlier one wins a tie.

    Args:
        values: the grid of one number. start: P starting values.
        mode: shared: one round, all P numbers equal; coordinate: P rounds, one number at a time, the others at their
            best.
    """

    def __init__(
        self, values: Sequence[float], start: Sequence[float], mode: Literal["shared", "coordinate"] = "shared"
    ) -> None:
        if not values or len(set(values)) != len(values) or not len(start):
            raise ValueError(f"values: {list(values)}; a grid needs at least one value, none twice, and a start")
        self.values, self.mode = [float(v) for v in values], mode
        self.best = [float(s) for s in start]
        self.round = 0

    @property
    def value(self) -> list[float]:
        """The best setting so far (the start before any round)."""
        return list(self.best)

    @property
    def finished(self) -> bool:
        """All rounds are told."""
        return self.round >= (1 if self.mode == "shared" else len(self.best))

    def ask(self) -> list[list[float]]:
        """One setting per value of the grid."""
        if self.mode == "shared":
            return [[v] * len(self.best) for v in self.values]
        return [[v if p == self.round else b for p, b in enumerate(self.best)] for v in self.values]

    def tell(self, rewards: Sequence[float]) -> None:
        """Keep the best setting of the round."""
        _check_rewards(rewards, len(self.values))
        self.best = self.ask()[int(np.argmax(rewards))]
        self.round += 1

    def state_dict(self) -> dict[str, Any]:
        """See `Proposer`."""
        return {"best": list(self.best), "round": self.round}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Proposer`."""
        self.best, self.round = list(state["best"]), state["round"]


def _check_rewards(rewards: Sequence[float], n: int) -> None:
    if len(rewards) != n:
        raise ValueError(f"{len(rewards)} rewards for {n} settings")
    if not all(math.isfinite(r) for r in rewards):
        raise TrainingError(
            f"a reward of the sample search is not finite ({list(rewards)}); "
            "lower the learning rate, or narrow the range that is searched"
        )
