"""Train one seed of one stage. Killed anywhere and started again, it ends with the same bits.

Shapes: N rows of the training set, B rows of the global batch, b rows of this rank, C classes, D embedding width.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig, Stage
from mmcontrast.data.loading import Table
from mmcontrast.errors import TrainingError
from mmcontrast.evaluation.classification import selection_key
from mmcontrast.methods import Method, Progress, build_method
from mmcontrast.training import checkpoint, seeding
from mmcontrast.training.batching import in_chunks, make_feed
from mmcontrast.training.distributed import World
from mmcontrast.training.engine import Engine, make_engine

log = logging.getLogger(__name__)

EVALUATED = ("val", "test")


@dataclass
class SeedRun:
    """What one seed of one stage leaves behind.

    Attributes:
        history: (epoch, name, value) of every logged scalar.
        probs: (epoch, split) -> (n, C) float32 class probabilities at each evaluated epoch; finetune only.
        best_key: how the selected epoch scored on validation (larger is better); None before the first evaluation.
        best_epoch: the epoch `weights` belong to.
        weights: state dict of the selected epoch, or of the last one where nothing is selected; on rank 0 alone.
    """

    history: list[tuple[int, str, float]] = field(default_factory=list)
    probs: dict[tuple[int, str], Tensor] = field(default_factory=dict)
    best_key: list[float] | None = None
    best_epoch: int = -1
    weights: dict[str, Tensor] = field(default_factory=dict)

    def payload(self) -> dict[str, Any]:
        """As plain values and tensors, for a checkpoint."""
        return {
            "history": [list(h) for h in self.history],
            "probs": {f"{epoch}/{split}": p for (epoch, split), p in self.probs.items()},
            "best_key": self.best_key,
            "best_epoch": self.best_epoch,
            "weights": self.weights,
        }

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> SeedRun:
        """Inverse of `payload`."""
        probs = {}
        for key, value in payload["probs"].items():
            epoch, split = key.split("/")
            probs[int(epoch), split] = value
        history = [(int(e), str(n), float(v)) for e, n, v in payload["history"]]
        return cls(history, probs, payload["best_key"], payload["best_epoch"], payload["weights"])


@torch.no_grad()
def predict(method: nn.Module, table: Table, device: torch.device) -> Tensor:
    """(n, C) float32 class probabilities on the CPU, in evaluation mode."""
    if not isinstance(method, Method):
        raise TypeError(f"a Method is evaluated, not a {type(method).__name__}")
    method.eval()
    out = []
    for batch in in_chunks(table, device):
        logits = method.logits(batch)
        if logits is None:
            raise TrainingError(f"{method.cell.name}: the method has no classifier, so `finetune` cannot be scored")
        out.append(logits.float().softmax(-1).cpu())
    method.train()
    return torch.cat(out)


@torch.no_grad()
def embed(method: Method, table: Table, device: torch.device) -> Tensor:
    """(n, D) float32 embeddings on the CPU, in evaluation mode."""
    method.eval()
    out = [method.embed(batch).float().cpu() for batch in in_chunks(table, device)]
    method.train()
    return torch.cat(out)


class SeedTrainer:
    """One seed of one stage: build, resume, train, evaluate, checkpoint.

    Args:
        cell: the cell's configuration. stage_name: pretrain | finetune.
        tables: train, val and test of this seed (val may have no rows).
        world: the processes that share the work.
        state: folder of this seed's resume state.
        fingerprint: of everything that decides the result; state of another fingerprint is not resumed.
        initial: weights to start from (a pretrained model), or None for a fresh initialisation.
        report: called as report(epoch, terms) after every epoch, to show progress.
    """

    def __init__(
        self,
        cell: CellConfig,
        stage_name: str,
        seed: int,
        tables: dict[str, Table],
        world: World,
        state: Path,
        fingerprint: str,
        initial: dict[str, Tensor] | None = None,
        report: Callable[[int, dict[str, float]], None] = lambda epoch, terms: None,
    ) -> None:
        self.cell, self.stage_name, self.seed, self.tables = cell, stage_name, seed, tables
        self.world, self.state, self.fingerprint, self.report = world, state, fingerprint, report
        self.stage: Stage = getattr(cell, stage_name)
        self.scored = stage_name == "finetune" and not cell.probed
        seeding.seed_everything(seed)  # the same initial weights on every rank
        method = build_method(cell)
        method.check_data(tables["train"].inputs)
        if initial is not None:
            method.load_state_dict(initial)
        seeding.seed_everything(seed, world.rank)
        self.generator = seeding.named_generator(seed, stage_name)
        self.feed = make_feed(cell, self.stage, tables["train"], world)
        steps = self.stage.epochs * self.feed.steps
        self.engine: Engine = make_engine(method, self.stage, steps, cell.engine, world)
        self.run = SeedRun()
        self.epoch = 0

    def train(self) -> SeedRun:
        """Run to the last epoch, from the newest checkpoint if there is one.

        Raises:
            TrainingError: the loss is not finite; the newest checkpoint is from before that.
        """
        self._resume()
        while self.epoch < self.stage.epochs:
            terms = self._epoch()
            self.run.history += [(self.epoch, f"train/{name}", value) for name, value in terms.items()]
            last = self.epoch == self.stage.epochs - 1
            if self.scored and (last or (self.epoch + 1) % self.stage.eval_every == 0):
                self._evaluate()
            self.report(self.epoch, terms)
            self.epoch += 1
            if last or self.epoch % self.stage.checkpoint_every == 0:
                self._save()
        self.engine.close()
        return self.run

    def _epoch(self) -> dict[str, float]:
        """One pass over the training rows; the mean of each term over steps."""
        sums: dict[str, float] = {}
        steps = self.feed.steps
        for step, (batch, rows) in enumerate(self.feed.epoch(self.epoch, self.generator)):
            progress = Progress(
                stage=self.stage_name,  # type: ignore[arg-type]
                epoch=self.epoch,
                epochs=self.stage.epochs,
                generator=self.generator,
                gather=self.world.gather,
                rows=rows,
            )
            terms = self.engine.forward(batch, progress)
            values = {name: float(t.detach()) for name, t in terms.items()}
            if not math.isfinite(values["loss"]):
                raise TrainingError(self._not_finite(step, steps, values))
            self.engine.step(terms["loss"])
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value
        return {name: total / steps for name, total in sums.items()}

    def _not_finite(self, step: int, steps: int, values: dict[str, float]) -> str:
        terms = ", ".join(f"{k} = {v:g}" for k, v in values.items())
        kept = checkpoint.latest_step(self.state)
        return (
            f"{self.cell.name}, {self.stage_name}, seed {self.seed}: the loss is not finite at epoch {self.epoch}, "
            f"step {step} of {steps} ({terms}). "
            + (
                f"The checkpoint of epoch {kept} is kept in {self.state}. "
                if kept is not None
                else "No checkpoint had been written yet. "
            )
            + "Lower the learning rate, raise the temperature, or set gradient_clipping."
        )

    def _evaluate(self) -> None:
        """Probabilities on val and test; the weights are kept if validation has not been better before."""
        scored = {s: self.tables[s] for s in EVALUATED if len(self.tables[s])}
        with self.engine.whole() as method:
            for split, table in scored.items():
                self.run.probs[self.epoch, split] = predict(method, table, self.world.device)
        if "val" not in scored:
            return
        labels, probs = scored["val"].labels, self.run.probs[self.epoch, "val"]
        key = list(selection_key(labels.numpy(), probs.numpy(), self.cell.metrics[0]))
        if self.run.best_key is None or key > self.run.best_key:
            self.run.best_key, self.run.best_epoch = key, self.epoch
            self.run.weights = self.engine.full_state()

    def _save(self) -> None:
        if self.epoch == self.stage.epochs and self.run.best_key is None:
            self.run.best_epoch, self.run.weights = self.epoch - 1, self.engine.full_state()
        payload = {
            "epoch": self.epoch,
            "engine": self.engine.state_dict(),
            "generator": self.generator.get_state(),
            "random": seeding.random_state(),
            "run": self.run.payload(),
        }
        checkpoint.save(self.state, self.epoch, payload, self.fingerprint, self.world)

    def _resume(self) -> None:
        payload = checkpoint.load_latest(self.state, self.fingerprint, self.world)
        if payload is None:
            return
        self.engine.load_state_dict(payload["engine"])
        self.generator.set_state(payload["generator"])
        seeding.restore(payload["random"])
        self.run = SeedRun.from_payload(payload["run"])
        self.epoch = int(payload["epoch"])
        log.info("seed %d: resumed after epoch %d of %d", self.seed, self.epoch, self.stage.epochs)
