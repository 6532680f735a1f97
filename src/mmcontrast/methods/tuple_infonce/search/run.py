"""Sample optimisation before a stage: alpha is searched on held-out TRAIN tuples, then training starts from scratch.

Liu et al., ICCV 2021. A trial trains a clone with one alpha and dropped modalities, and is rewarded by how well one
modality finds the rest of its tuple among held-out ones; no label and no row of val or test takes part. Trials of a
round start from the same bits and share every draw. What is found goes into the cell's objective, so that a searched
stage is exactly the stage of a cell that was given that alpha.

Draws are of the global batch, so that the number of ranks changes nothing but rounding; rewards are those of rank 0.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from itertools import chain, count, islice
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from mmcontrast.config import CellConfig, Stage
from mmcontrast.data.loading import Table
from mmcontrast.errors import StoppedError, TrainingError
from mmcontrast.methods.base import History, Progress, SeedJob, build_method
from mmcontrast.methods.tuple_infonce.method import TupleInfoNCE
from mmcontrast.methods.tuple_infonce.objective import GridSearch, ReinforceSearch
from mmcontrast.methods.tuple_infonce.search.trials import (
    Grid,
    Outcome,
    Proposer,
    Reinforce,
    SampleSearch,
    Trial,
    alpha_reward,
    beta_reward,
    crossmodal_accuracy,
)
from mmcontrast.training import checkpoint, seeding
from mmcontrast.training.batching import make_feed, rows_of
from mmcontrast.training.engine import make_engine

log = logging.getLogger(__name__)


def searched(cell: CellConfig, job: SeedJob, table: Table) -> tuple[CellConfig, History]:
    """The cell with its alpha found, and the search's path.

    Args:
        cell: with a search. table: training rows.

    Returns:
        (cell, rows): (round, name, value), names search/alpha_<modality> (before the round; the last row is what was
        found), search/reward, search/reward_low, search/reward_high, search/reward_spread (standard deviation over
        the round's trials), search/accuracy_<modality> (their mean), and of each trial search/trial<i>/reward and
        search/trial<i>/alpha_<modality>. Of a round over beta: search/beta, search/beta_reward with the same endings,
        search/accuracy_at_<factor> (mean over modalities), search/trial<i>/beta_reward and search/trial<i>/beta.

    Raises:
        TrainingError: a loss is not finite, or the training rows are too few to hold some out.
        StoppedError: it was asked to stop, and has saved its state.
    """
    given = cell.objective["search"]
    kind: type[ReinforceSearch | GridSearch] = ReinforceSearch if given["kind"] == "reinforce" else GridSearch
    return _Run(cell, job, table, kind.model_validate(given)).found()


def settings(values: Mapping[str, list[float]]) -> tuple[list[float], float]:
    """(alpha, strength of the augmentations) of a search's values; a strength that is not searched is 1."""
    return values["alpha"], values["beta"][0] if "beta" in values else 1.0


def split_rows(n: int, held_out: int, seed: int) -> tuple[Tensor, Tensor]:
    """(trained on, held out) rows of n, sorted, drawn without looking at labels.

    Raises:
        TrainingError: fewer rows are left to train on than are held out.
    """
    if n < 2 * held_out:
        raise TrainingError(
            f"objective.search.held_out: {held_out} of {n} training rows; at least as many must be left to train on: "
            f"hold out at most {n // 2}"
        )
    order = torch.randperm(n, generator=seeding.named_generator(seed, "search", "held out"))
    return order[held_out:].sort().values, order[:held_out].sort().values


class _Run:
    """One seed's search: the engine that trials share, where the round starts from, and the clones made in it."""

    def __init__(self, cell: CellConfig, job: SeedJob, table: Table, spec: ReinforceSearch | GridSearch) -> None:
        self.cell, self.job, self.spec = cell, job, spec
        self.seed, self.world = seed, world = job.seed, job.world
        self.state = job.state / "search"
        stage: Stage = getattr(cell, job.stage)
        seeding.seed_everything(seed)
        self.method = method = cast(TupleInfoNCE, build_method(cell))
        method.check_data(table.sample())
        method.dropping = spec.dropping
        kept, held = split_rows(len(table), spec.held_out, seed)
        self.feed = make_feed(cell, stage, table.take(kept), world, seed)
        self.held = rows_of(table.take(held), slice(None), world.device)
        trials, draws = (seeding.derived_seed(seed, "search", of) for of in ("trials", "proposals"))
        of_alpha = Grid(spec, method.alpha) if isinstance(spec, GridSearch) else Reinforce(spec, method.alpha, draws)
        targets: dict[str, Proposer] = {"alpha": of_alpha}
        if spec.beta is not None:
            targets["beta"] = Reinforce(spec.beta, [1.0], seeding.derived_seed(seed, "search", "strengths"))
        steps = spec.steps * sum(of.rounds for of in targets.values())
        self.engine = make_engine(method, stage, steps, cell.engine, world)
        self.start = self.engine.state_dict()
        self.clones: list[dict[str, Any]] = []
        self.search = SampleSearch(targets, self._evaluate, self._adopt, trials)

    def found(self) -> tuple[CellConfig, History]:
        """Run what is left of the search."""
        self._resume()
        alpha, strength = settings(self.search.run(self._save))
        self.engine.close()
        found = dict(zip(self.method.modalities, alpha, strict=True))
        log.info("seed %d: alpha %s, strength of augmentations %g", self.seed, found, strength)
        return self.cell.model_copy(update={"objective": self.method.settled(alpha, strength)}), self._history()

    def _evaluate(self, trial: Trial) -> Outcome:
        """Train a clone from the start of the round, and score it."""
        self.engine.load_state_dict(self.start)
        seeding.seed_everything(trial.seed, self.world.rank)
        alpha, strength = settings(trial.values)
        self.method.train_at(alpha, strength)
        generator = seeding.named_generator(trial.seed, self.job.stage, "search")
        epochs = (self.feed.epoch(epoch, generator) for epoch in count())
        for batch, rows in islice(chain.from_iterable(epochs), self.spec.steps):
            progress = Progress(
                stage=self.job.stage,  # type: ignore[arg-type]
                epoch=0,
                epochs=1,
                generator=generator,
                gather=self.world.gather,
                rows=rows,
            )
            terms = self.engine.forward(batch, progress)
            loss = float(terms["loss"].detach())
            if not math.isfinite(loss):
                raise TrainingError(
                    f"{self.cell.name}, seed {self.seed}: the loss of the sample search is not finite in round "
                    f"{trial.round} with alpha {alpha}; lower the learning rate or search.high"
                )
            self.engine.step(terms["loss"])
        self.clones.append(self.engine.state_dict())
        if trial.target == "beta" and self.spec.beta is not None:
            levels = self.spec.beta.levels
            means = [float(np.mean(self._accuracies(level))) for level in levels]
            details = {f"at_{level:g}": mean for level, mean in zip(levels, means, strict=True)}
            return Outcome(beta_reward(strength, levels, means, self.spec.beta.high), details)
        accuracies = self._accuracies()
        details = dict(zip(self.method.modalities, accuracies, strict=True))
        return Outcome(alpha_reward(accuracies), details)

    @torch.no_grad()
    def _accuracies(self, strength: float = 1.0) -> list[float]:
        """Crossmodal accuracy of the held-out tuples by modality; their augmentation is the same in every trial."""
        zeta = seeding.named_generator(self.seed, "search", "zeta")
        with self.engine.whole() as method:
            method.eval()
            accuracies = crossmodal_accuracy(*cast(TupleInfoNCE, method).crossmodal(self.held, zeta, strength))
            method.train()
        out: list[float] = self.world.broadcast_object(accuracies)
        return out

    def _adopt(self, round_: int, index: int) -> None:
        self.start, self.clones = self.clones[index], []

    def _save(self) -> None:
        payload = {"found": self.search.found, "start": self.start, "clones": self.clones}
        checkpoint.save(self.state, self.search.round, payload, self.job.fingerprint, self.world)
        if self.job.stop.agreed(self.world):
            raise StoppedError(
                f"{self.cell.name}, seed {self.seed}: stopped in round {self.search.round} of the sample search; the "
                f"state is in {self.state}. Run the same command again to go on."
            )

    def _resume(self) -> None:
        payload = checkpoint.load_latest(self.state, self.job.fingerprint, self.world)
        if payload is None:
            return
        self.search.replay(payload["found"])
        self.start, self.clones = payload["start"], payload["clones"]
        log.info("seed %d: search resumed in round %d", self.seed, self.search.round)

    def _history(self) -> History:
        out: History = []
        for entry in self.search.log:
            at, target, trials = entry["round"], entry["target"], entry["trials"]
            ending, rewards = "beta_reward" if target == "beta" else "reward", [t["reward"] for t in trials]
            rows = self._named("search/", target, entry["before"])
            of_rewards: dict[str, Callable[[list[float]], Any]] = {
                "": np.mean,
                "_low": min,
                "_high": max,
                "_spread": np.std,
            }
            rows |= {f"search/{ending}{end}": float(of(rewards)) for end, of in of_rewards.items()}
            for name in trials[0]["details"]:
                rows[f"search/accuracy_{name}"] = float(np.mean([t["details"][name] for t in trials]))
            for i, trial in enumerate(trials):
                rows[f"search/trial{i}/{ending}"] = trial["reward"]
                rows |= self._named(f"search/trial{i}/", target, trial["setting"])
            out += [(at, name, value) for name, value in rows.items()]
        for target, setting in self.search.values.items():
            out += [(self.search.round, name, value) for name, value in self._named("search/", target, setting).items()]
        return out

    def _named(self, prefix: str, target: str, setting: list[float]) -> dict[str, float]:
        """The numbers of a setting by their names in the log."""
        names = ["beta"] if target == "beta" else [f"alpha_{m}" for m in self.method.modalities]
        return {f"{prefix}{name}": value for name, value in zip(names, setting, strict=True)}
