"""Sample optimisation: which negatives (alpha) and how strong an augmentation (beta), judged on held-out tuples.

Liu et al., ICCV 2021, as far as it is known (their released search has defects that are not copied). A proposer says
which settings to try, the caller's `evaluate` trains a clone with one of them and scores it (`rewards.py`), and
`SampleSearch` drives them. It can be stopped and resumed between any two trials, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from mmcontrast.methods.tuple_infonce.search.policies import Proposer


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
        adopt: called when a round is over with (round, index of the clone that the next round starts from). It must
            leave the start of `round` in place: killed before the state is saved, the last trial is run once more.
        carry: which clone that is. nearest: its setting lies closest to the proposer's new value (little selection
            bias); best: the highest reward (released code); the first one wins a tie.
        seed: base of the trials' seeds.
    """

    def __init__(
        self,
        proposers: Mapping[str, Proposer],
        evaluate: Callable[[Trial], Outcome],
        adopt: Callable[[int, int], None],
        carry: Literal["nearest", "best"] = "nearest",
        seed: int = 0,
    ) -> None:
        self.proposers, self.evaluate, self.adopt = dict(proposers), evaluate, adopt
        self.carry, self.seed = carry, seed
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
        chosen = int(np.argmax(rewards) if self.carry == "best" else np.argmin(away))
        adopt(self.round, chosen)
        trials = [{"setting": s, **asdict(o)} for s, o in zip(settings, self.outcomes, strict=True)]
        of_round = {"round": self.round, "target": target, "before": before, "after": proposer.value}
        self.log.append({**of_round, "chosen": chosen, "trials": trials})
        self.round, self.outcomes = self.round + 1, []
