"""Sample optimisation: which negatives (alpha) and how strong an augmentation (beta), judged on held-out tuples.

Liu et al., ICCV 2021, as far as it is known (their released search has defects that are not copied). A proposer, a
Gaussian policy that climbs the reward (REINFORCE) or a grid, says which settings to try, the caller's `evaluate` trains
a clone with one of them and scores it, and `SampleSearch` drives them. It can be stopped and resumed between any two
trials, bit for bit: given the same rewards, a proposer goes the same way. `evaluation.across.study_reward` asks whether
the reward predicts the score.

Shapes: M held-out tuples, K modalities, D width; P searched numbers, n trials per round.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmcontrast.errors import TrainingError
from mmcontrast.methods.tuple_infonce.objective import GridSearch, ReinforceSearch, StrengthSearch


def crossmodal_accuracy(queries: Sequence[Tensor], candidates: Sequence[Tensor]) -> list[float]:
    """A^k: how often modality k alone finds its own tuple without modality k, among all of them.

    Args:
        queries: K tensors (M, D), of the (augmented) modality k alone. candidates: K of tuples without modality k.

    Returns:
        K fractions in [0, 1]; chance is 1 / M, which is also what a collapsed encoder gets.
    """
    if len(queries) != len(candidates) or any(q.shape != c.shape for q, c in zip(queries, candidates, strict=True)):
        raise ValueError("each modality needs as many candidates as queries, of one width")
    out = []
    for q_MD, c_MD in zip(queries, candidates, strict=True):
        hit_M = (q_MD @ c_MD.T).argmax(1) == torch.arange(len(q_MD), device=q_MD.device)
        out.append(hit_M.double().mean().item())
    return out


def alpha_reward(accuracies: Sequence[float]) -> float:
    """R(alpha) = sum over modalities of A^k."""
    return float(sum(accuracies))


def beta_reward(sigma: float, levels: Sequence[float], accuracies: Sequence[float], scale: float) -> float:
    """R(beta): the noise trained with should be the one the encoder is best at, and keep little of what is shared.

    1 - (sigma / scale - peak / scale)^2 + 1 - mean(accuracies); peak is the first of the levels with the highest
    accuracy. This is the released form (there with scale 250, levels 30, 60, ..., 240 and percent); the paper's own
    formula is not known.

    Args:
        sigma: noise trained with. levels: noises tested at. accuracies: fractions, one per level. scale: > 0.
    """
    if len(levels) != len(accuracies) or not levels or scale <= 0:
        raise ValueError("one accuracy a noise level, at least one level and a scale above 0 are needed")
    peak = levels[int(np.argmax(accuracies))]
    return 1 - ((sigma - peak) / scale) ** 2 + 1 - float(np.mean(accuracies))


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
        """One step of the mean along the advantage-weighted gradient; it stays within the range.

        Raises:
            TrainingError: a reward is not finite.
        """
        if self.open is None:
            raise ValueError("rewards without an open round: call ask() first")
        _check_rewards(rewards, self.spec.trials)
        gradient = reinforce_gradient(self.open, self.mean, self.spec.sigma, advantages(rewards))
        self.round += 1
        self.mean = (self.mean + self.spec.rate * gradient).clip(self.spec.low, self.spec.high)
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


@dataclass(frozen=True)
class Trial:
    """What `evaluate` is asked for.

    Attributes:
        target: which proposer this is for, e.g. alpha or beta. values: target -> setting to train with, all targets.
        round: 0-based, over all targets. index: of the trial in its round.
        seed: of every random draw of the trial; one for all trials of a round, so that they differ by setting alone.
    """

    target: str
    values: dict[str, list[float]]
    round: int
    index: int
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What a trial came to: the reward, and anything worth a line in the log (A^k, loss of each block)."""

    reward: float
    details: dict[str, float] = field(default_factory=dict)


class SampleSearch:
    """Rounds over one or more targets in turn.

    Args:
        proposers: target -> proposer, taken in turn, one round each, those that are finished skipped.
        evaluate: trains a clone from the start of `trial.round` and scores it on held-out TRAIN tuples. It must restore
            model, optimizer, buffers and random state first and keep the clone under round and index.
        adopt: called when a round is over with (round, index of the clone that the next round starts from), whose
            setting lies closest to the proposer's new value: less selection bias than of the best, which the released
            code takes. It must leave the start of `round` in place: killed before the state is saved, the last trial is
            run once more.
        seed: base of the trials' seeds.
    """

    def __init__(
        self,
        proposers: Mapping[str, Proposer],
        evaluate: Callable[[Trial], Outcome],
        adopt: Callable[[int, int], None],
        seed: int = 0,
    ) -> None:
        self.proposers, self.evaluate, self.adopt = dict(proposers), evaluate, adopt
        self.seed = seed
        self.round = 0
        self.outcomes: list[Outcome] = []
        self.log: list[dict[str, Any]] = []

    @property
    def values(self) -> dict[str, list[float]]:
        """target -> the setting believed best."""
        return {name: p.value for name, p in self.proposers.items()}

    @property
    def target(self) -> str:
        """Whose round it is; "" when all are finished."""
        names = list(self.proposers)
        turn = [names[(self.round + shift) % len(names)] for shift in range(len(names))]
        return next((name for name in turn if not self.proposers[name].finished), "")

    @property
    def found(self) -> list[dict[str, Any]]:
        """What every trial came to, plain JSON; from it the rest follows (`replay`)."""
        return [t for entry in self.log for t in entry["trials"]] + [asdict(o) for o in self.outcomes]

    def replay(self, found: Sequence[Mapping[str, Any]]) -> None:
        """Go on from there; the proposers must be built with the arguments they had, and clones are the caller's."""
        for trial in found:
            self._take(Outcome(trial["reward"], trial["details"]), lambda round_, index: None)

    def run(self, save: Callable[[], None]) -> dict[str, list[float]]:
        """All that is left, `save` called after every trial; returns `values`."""
        while target := self.target:
            index = len(self.outcomes)
            values = {**self.values, target: self.proposers[target].ask()[index]}
            trial = Trial(target, values, self.round, index, self.seed + self.round)
            self._take(self.evaluate(trial), self.adopt)
            save()
        return self.values

    def _take(self, outcome: Outcome, adopt: Callable[[int, int], None]) -> None:
        """The outcome of the next trial; the last of a round closes it."""
        target, self.outcomes = self.target, [*self.outcomes, outcome]
        proposer = self.proposers[target]
        settings, rewards, before = proposer.ask(), [o.reward for o in self.outcomes], proposer.value
        if len(rewards) < len(settings):
            return
        proposer.tell(rewards)
        away = ((np.asarray(settings) - proposer.value) ** 2).sum(1)
        chosen = int(np.argmin(away))
        adopt(self.round, chosen)
        trials = [{"setting": s, **asdict(o)} for s, o in zip(settings, self.outcomes, strict=True)]
        of_round = {"round": self.round, "target": target, "before": before, "after": proposer.value}
        self.log.append({**of_round, "chosen": chosen, "trials": trials})
        self.round, self.outcomes = self.round + 1, []
