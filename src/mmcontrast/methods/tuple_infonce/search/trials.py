"""Sample optimisation: which negatives (alpha) and how strong an augmentation (beta), judged on held-out tuples.

Liu et al., ICCV 2021, as far as it is known (their released search has defects that are not copied). A proposer says
which settings to try, the caller's `evaluate` trains a clone with one of them and scores it (`rewards.py`), and
`SampleSearch` drives them. It can be stopped and resumed between any two trials, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from mmcontrast.errors import TrainingError
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
    def target(self) -> str | None:
        """Whose round it is; None when all are finished."""
        names = list(self.proposers)
        turn = [names[(self.round + shift) % len(names)] for shift in range(len(names))]
        return next((name for name in turn if not self.proposers[name].finished), None)

    def run(self, save: Callable[[dict[str, Any]], None]) -> dict[str, list[float]]:
        """All that is left, `save` called with the state after every trial; returns `values`."""
        while (target := self.target) is not None:
            self._trial(target)
            save(self.state_dict())
        return self.values

    def _trial(self, target: str) -> None:
        proposer = self.proposers[target]
        settings = proposer.ask()
        index = len(self.outcomes)
        if index < len(settings):
            values = {**self.values, target: settings[index]}
            self.outcomes.append(self.evaluate(Trial(target, values, self.round, index, self.seed + self.round)))
        if len(self.outcomes) == len(settings):
            self._close(target, proposer, settings)

    def _close(self, target: str, proposer: Proposer, settings: list[list[float]]) -> None:
        rewards = [o.reward for o in self.outcomes]
        before = proposer.value
        proposer.tell(rewards)
        if self.carry == "best":
            chosen = int(np.argmax(rewards))
        else:
            chosen = int(np.argmin(((np.asarray(settings) - proposer.value) ** 2).sum(1)))
        self.adopt(self.round, chosen)
        self.log.append(
            {
                "round": self.round,
                "target": target,
                "before": before,
                "after": proposer.value,
                "chosen": chosen,
                "trials": [{"setting": s, **asdict(o)} for s, o in zip(settings, self.outcomes, strict=True)],
            }
        )
        self.round += 1
        self.outcomes = []

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "round": self.round,
            "outcomes": [asdict(o) for o in self.outcomes],
            "log": self.log,
            "proposers": {name: p.state_dict() for name, p in self.proposers.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; the proposers must be built with the arguments they had.

        Raises:
            TrainingError: the state is of a search over other targets.
        """
        if set(state["proposers"]) != set(self.proposers):
            raise TrainingError(
                f"the saved search is over {sorted(state['proposers'])} and this one over {sorted(self.proposers)}; "
                "delete the saved state to start anew"
            )
        self.round, self.log = state["round"], list(state["log"])
        self.outcomes = [Outcome(**o) for o in state["outcomes"]]
        for name, proposer in self.proposers.items():
            proposer.load_state_dict(state["proposers"][name])
