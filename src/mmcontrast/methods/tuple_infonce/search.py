"""Sample optimisation before a stage: which negatives (alpha) and how strong an augmentation (beta) to train with.

Liu et al., ICCV 2021, as far as it is known (their released search has defects that are not copied). A Gaussian policy
that climbs the reward (REINFORCE), or a grid, says what a round tries. A trial trains a clone with one setting and
dropped modalities, and is rewarded by how well one modality finds the rest of its tuple among held-out TRAIN tuples; no
label and no row of val or test takes part. Trials of a round start from the same bits and share every draw. What is
found goes into the cell's objective, so that a searched stage is exactly the stage of a cell that was given it.
`evaluation.across.study_reward` asks whether the reward predicts the score.

It can be stopped and resumed between any two trials, bit for bit. Draws are of the global batch, so that the number of
ranks changes nothing but rounding; rewards are those of rank 0.

Shapes: M held-out tuples, K modalities, D width; P searched numbers, n trials per round.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, count, islice
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from mmcontrast.config import CellConfig, Stage
from mmcontrast.data.loading import Table
from mmcontrast.errors import StoppedError, TrainingError
from mmcontrast.methods.base import History, Progress, SeedJob, build_method
from mmcontrast.methods.tuple_infonce.method import TupleInfoNCE
from mmcontrast.methods.tuple_infonce.objective import GridSearch, ReinforceSearch, StrengthSearch
from mmcontrast.training import checkpoint, seeding
from mmcontrast.training.batching import make_feed, rows_of
from mmcontrast.training.engine import make_engine

log = logging.getLogger(__name__)

Array = np.ndarray
# of the rewards of a round, by the ending of its name in the log
STATISTICS: dict[str, Callable[[list[float]], Any]] = {"": np.mean, "_low": min, "_high": max, "_spread": np.std}


def crossmodal_accuracy(queries: Sequence[Tensor], candidates: Sequence[Tensor]) -> list[float]:
    """A^k in [0, 1]: how often modality k alone finds its own tuple without modality k, among all of them.

    Chance is 1 / M, which is also what a collapsed encoder gets. The sum over k is R(alpha).
    queries: K tensors (M, D), of the (augmented) modality k alone. candidates: K of tuples without modality k.
    """
    out = []
    for q_MD, c_MD in zip(queries, candidates, strict=True):
        hit_M = (q_MD @ c_MD.T).argmax(1) == torch.arange(len(q_MD), device=q_MD.device)
        out.append(hit_M.double().mean().item())
    return out


def beta_reward(sigma: float, levels: Sequence[float], accuracies: Sequence[float], scale: float) -> float:
    """R(beta): the noise trained with should be the one the encoder is best at, and keep little of what is shared.

    1 - (sigma / scale - peak / scale)^2 + 1 - mean(accuracies); peak is the first of the levels with the highest
    accuracy. This is the released form (there with scale 250, levels 30, 60, ..., 240 and percent); the paper's own
    formula is not known. sigma: noise trained with. levels: noises tested at. accuracies: a fraction of each.
    scale: > 0.
    """
    peak = levels[int(np.argmax(accuracies))]
    return 1 - ((sigma - peak) / scale) ** 2 + 1 - float(np.mean(accuracies))


def advantages(rewards: Sequence[float], eps: float = 1e-8) -> Array:
    """(R - mean) / (std + eps) with the population's std; all 0 where every reward is the same."""
    r = np.asarray(rewards, float)
    return (r - r.mean()) / (r.std() + eps)


def reinforce_gradient(raw: Array, mean: Array, sigma: float, signal: Array) -> Array:
    """(P,) estimate of d E[R] / d mean for theta ~ N(mean, sigma^2 I): mean of signal * (theta - mean) / sigma^2.

    raw: (n, P) draws BEFORE clipping, which keeps the estimate unbiased. signal: (n,) rewards or advantages.
    """
    return (signal[:, None] * (raw - mean)).mean(0) / sigma**2


class Reinforce:
    """Gaussian policy over the P searched numbers, from `mean` on; its mean climbs the reward.

    Draws come in antithetic pairs (mean + sigma e, mean - sigma e): what the two share cancels from the gradient. What
    is trained with is clipped to the range of the spec.
    """

    def __init__(self, spec: ReinforceSearch | StrengthSearch, mean: Sequence[float], seed: int) -> None:
        self.spec, self.rounds, self.value = spec, spec.rounds, [float(x) for x in mean]
        self.rng = np.random.Generator(np.random.PCG64(seed))

    def ask(self) -> list[list[float]]:
        """The settings of a round, clipped draws; to be called once before each `tell`."""
        spec = self.spec
        half = self.rng.standard_normal((spec.trials // 2, len(self.value)))
        self.raw = np.asarray(self.value) + spec.sigma * np.stack([half, -half], axis=1).reshape(spec.trials, -1)
        settings: list[list[float]] = self.raw.clip(spec.low, spec.high).tolist()
        return settings

    def tell(self, rewards: Sequence[float]) -> None:
        """One step of the mean along the advantage-weighted gradient; it stays within the range."""
        spec, mean = self.spec, np.asarray(self.value)
        gradient = reinforce_gradient(self.raw, mean, spec.sigma, advantages(rewards))
        self.value = (mean + spec.rate * gradient).clip(spec.low, spec.high).tolist()


class Grid:
    """One round of every value of a grid, for all P numbers alike; the best is kept, of equals the earlier one."""

    rounds = 1

    def __init__(self, spec: GridSearch, start: Sequence[float]) -> None:
        self.spec, self.value = spec, [float(s) for s in start]

    def ask(self) -> list[list[float]]:
        """The settings of a round, one per value of the grid."""
        return [[v] * len(self.value) for v in self.spec.values]

    def tell(self, rewards: Sequence[float]) -> None:
        """Keep the best setting of the round."""
        self.value = self.ask()[int(np.argmax(rewards))]


Proposer = Reinforce | Grid
# of a trial: its reward, and details that are worth a line in the log (A^k); plain JSON
Outcome = dict[str, Any]


class Round(NamedTuple):
    """Whose round it was, the value before it, what was tried, and what each trial came to."""

    target: str
    before: list[float]
    settings: list[list[float]]
    outcomes: list[Outcome]


def sample_search(
    proposers: Mapping[str, Proposer],
    evaluate: Callable[[str, dict[str, list[float]], int], Outcome],
    adopt: Callable[[int], None],
    save: Callable[[list[Outcome], int], None],
    found: Sequence[Outcome] = (),
) -> list[Round]:
    """One round per target in turn, until each has had all of its own; the values of the proposers are what was found.

    Args:
        proposers: target, e.g. alpha or beta -> proposer.
        evaluate: is given the target, the setting of all targets and the number of the round; trains a clone from the
            start of the round and scores it. It must restore model, optimizer, buffers and random state first and keep
            the clone.
        adopt: called when a round is over with the index of the clone that the next one starts from, whose setting lies
            closest to the proposer's new value: less selection bias than of the best, which the released code takes.
        save: called after every trial with what all came to so far, and how many rounds are over.
        found: what trials came to that are not run again, the proposers being as they were before the first.
    """
    most = max(of.rounds for of in proposers.values())
    outcomes: list[Outcome] = []
    rounds: list[Round] = []
    for target in [name for k in range(most) for name, of in proposers.items() if k < of.rounds]:
        proposer, first = proposers[target], len(outcomes)
        before, settings = proposer.value, proposer.ask()
        for setting in settings:
            known = len(outcomes) < len(found)
            values = {name: of.value for name, of in proposers.items()} | {target: setting}
            outcomes.append(found[len(outcomes)] if known else evaluate(target, values, len(rounds)))
            if len(outcomes) == first + len(settings):
                proposer.tell([o["reward"] for o in outcomes[first:]])
                rounds.append(Round(target, before, settings, outcomes[first:]))
                if not known:
                    adopt(int(np.argmin(((np.asarray(settings) - proposer.value) ** 2).sum(1))))
            if not known:
                save(outcomes, len(rounds))
    return rounds


def searched(cell: CellConfig, job: SeedJob, table: Table) -> tuple[CellConfig, History]:
    """The cell, trained on the rows of `table`, with its alpha found, and the search's path as (round, name, value).

    Names are search/alpha_<modality> (before the round; the last row is what was found), search/reward,
    search/reward_low, search/reward_high, search/reward_spread (standard deviation over the round's trials),
    search/accuracy_<modality> (their mean), and of each trial search/trial<i>/reward and
    search/trial<i>/alpha_<modality>. Of a round over beta: search/beta, search/beta_reward with the same endings,
    search/accuracy_at_<factor> (mean over modalities), search/trial<i>/beta_reward and search/trial<i>/beta.

    Raises TrainingError: a loss is not finite, or the training rows are too few to hold some out; StoppedError: it was
    asked to stop, and has saved its state.
    """
    given = cell.objective["search"]
    kind: type[ReinforceSearch | GridSearch] = ReinforceSearch if given["kind"] == "reinforce" else GridSearch
    return _Run(cell, job, table, kind.model_validate(given)).found()


def split_rows(n: int, held_out: int, seed: int) -> tuple[Tensor, Tensor]:
    """(trained on, held out) rows of n, sorted, drawn without labels; TrainingError if the first would be fewer."""
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
        self.trials, draws = (seeding.derived_seed(seed, "search", of) for of in ("trials", "proposals"))
        of_alpha = Grid(spec, method.alpha) if isinstance(spec, GridSearch) else Reinforce(spec, method.alpha, draws)
        self.proposers: dict[str, Proposer] = {"alpha": of_alpha}
        if spec.beta is not None:
            self.proposers["beta"] = Reinforce(spec.beta, [1.0], seeding.derived_seed(seed, "search", "strengths"))
        steps = spec.steps * sum(of.rounds for of in self.proposers.values())
        self.engine = make_engine(method, stage, steps, cell.engine, world)
        self.start = self.engine.state_dict()
        self.clones: list[dict[str, Any]] = []

    def found(self) -> tuple[CellConfig, History]:
        """Run what is left of the search."""
        outcomes: list[Outcome] = []
        payload = checkpoint.load_latest(self.state, self.job.fingerprint, self.world)
        if payload is not None:
            outcomes, self.start, self.clones = payload["found"], payload["start"], payload["clones"]
            log.info("seed %d: search resumed after %d trials", self.seed, len(outcomes))
        rounds = sample_search(self.proposers, self._evaluate, self._adopt, self._save, outcomes)
        self.engine.close()
        values = {target: of.value for target, of in self.proposers.items()}
        alpha, strength = values["alpha"], values.get("beta", [1.0])[0]
        found = dict(zip(self.method.modalities, alpha, strict=True))
        log.info("seed %d: alpha %s, strength of augmentations %g", self.seed, found, strength)
        objective = self.method.settled(alpha, strength)
        return self.cell.model_copy(update={"objective": objective}), self._history(rounds, values)

    def _evaluate(self, target: str, values: dict[str, list[float]], round_: int) -> Outcome:
        """Train a clone from the start of the round, and score it."""
        self.engine.load_state_dict(self.start)
        seed = self.trials + round_  # one for all trials of a round, so that they differ by setting alone
        seeding.seed_everything(seed, self.world.rank)
        alpha, strength = values["alpha"], values.get("beta", [1.0])[0]
        self.method.train_at(alpha, strength)
        generator = seeding.named_generator(seed, self.job.stage, "search")
        epochs = (self.feed.epoch(epoch, generator) for epoch in count())
        for batch, rows in islice(chain.from_iterable(epochs), self.spec.steps):
            progress = Progress(self.job.stage, 0, 1, generator, self.world.gather, rows)
            terms = self.engine.forward(batch, progress)
            if not math.isfinite(float(terms["loss"].detach())):
                raise TrainingError(
                    f"{self.cell.name}, seed {self.seed}: the loss of the sample search is not finite in round "
                    f"{round_} with alpha {alpha}; lower the learning rate or search.high"
                )
            self.engine.step(terms["loss"])
        self.clones.append(self.engine.state_dict())
        if target == "beta" and self.spec.beta is not None:
            levels = self.spec.beta.levels
            means = [float(np.mean(self._accuracies(level))) for level in levels]
            reward = beta_reward(strength, levels, means, self.spec.beta.high)
            return {"reward": reward, "details": {f"at_{x:g}": mean for x, mean in zip(levels, means, strict=True)}}
        accuracies = self._accuracies()
        return {"reward": sum(accuracies), "details": dict(zip(self.method.modalities, accuracies, strict=True))}

    @torch.no_grad()
    def _accuracies(self, strength: float = 1.0) -> list[float]:
        """A^k on what was held out, under noise of this strength: the same draws in every trial."""
        zeta = seeding.named_generator(self.seed, "search", "zeta")
        with self.engine.whole() as method:
            method.eval()
            accuracies = crossmodal_accuracy(*cast(TupleInfoNCE, method).crossmodal(self.held, zeta, strength))
            method.train()
        out: list[float] = self.world.broadcast_object(accuracies)
        return out

    def _adopt(self, index: int) -> None:
        self.start, self.clones = self.clones[index], []

    def _save(self, outcomes: list[Outcome], round_: int) -> None:
        payload = {"found": outcomes, "start": self.start, "clones": self.clones}
        checkpoint.save(self.state, round_, payload, self.job.fingerprint, self.world)
        if self.job.stop.agreed(self.world):
            raise StoppedError(
                f"{self.cell.name}, seed {self.seed}: stopped in round {round_} of the sample search; the "
                f"state is in {self.state}. Run the same command again to go on."
            )

    def _history(self, rounds: Sequence[Round], found: Mapping[str, list[float]]) -> History:
        out: History = []
        for at, (target, before, settings, outcomes) in enumerate(rounds):
            ending, rewards = "beta_reward" if target == "beta" else "reward", [o["reward"] for o in outcomes]
            rows = self._named("search/", target, before)
            rows |= {f"search/{ending}{end}": float(of(rewards)) for end, of in STATISTICS.items()}
            for name in outcomes[0]["details"]:
                rows[f"search/accuracy_{name}"] = float(np.mean([o["details"][name] for o in outcomes]))
            for i, (setting, reward) in enumerate(zip(settings, rewards, strict=True)):
                rows[f"search/trial{i}/{ending}"] = reward
                rows |= self._named(f"search/trial{i}/", target, setting)
            out += [(at, name, value) for name, value in rows.items()]
        for target, setting in found.items():
            out += [(len(rounds), name, value) for name, value in self._named("search/", target, setting).items()]
        return out

    def _named(self, prefix: str, target: str, setting: list[float]) -> dict[str, float]:
        """The numbers of a setting by their names in the log."""
        names = ["beta"] if target == "beta" else [f"alpha_{m}" for m in self.method.modalities]
        return {f"{prefix}{name}": value for name, value in zip(names, setting, strict=True)}
