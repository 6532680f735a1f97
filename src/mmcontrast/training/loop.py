"""Train one seed of one stage. Killed anywhere and started again, it ends with the same bits.

Asked to stop (SIGTERM), it saves after the step it is in, and goes on with the next one when started again.

Shapes: N rows of the training set, B rows of the global batch, b rows of this rank, C classes, labels or
quantities, D embedding width.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from mmcontrast.config import CellConfig, Stage
from mmcontrast.data.loading import Table
from mmcontrast.errors import DivergedError, StoppedError
from mmcontrast.evaluation.scores import selection_key
from mmcontrast.methods.base import Method, Progress, SeedJob, build_method, method_class
from mmcontrast.training import checkpoint, seeding
from mmcontrast.training.batching import make_feed
from mmcontrast.training.checkpoint import EpochTensors, SeedRun
from mmcontrast.training.engine import Engine, make_engine
from mmcontrast.training.outputs import embed_observations, predict, retrieval_key

log = logging.getLogger(__name__)

EVALUATED = ("val", "test")
# folder of what evaluated epochs leave, in that of the resume state
KEPT = "evaluated"
# steps on a GPU between two waits for what they computed; on a CPU each is looked at before the next
UNREAD = 16


class SeedTrainer:
    """One seed of one stage: build, resume, train, evaluate, checkpoint.

    tables: train, val and test of this seed (val may have no rows). initial: weights to start from (a pretrained
    model), or None for fresh ones. report: called as report(epoch, terms) after every epoch.
    """

    def __init__(
        self,
        cell: CellConfig,
        job: SeedJob,
        tables: dict[str, Table],
        initial: dict[str, Tensor] | None = None,
        report: Callable[[int, dict[str, float]], None] = lambda epoch, terms: None,
    ) -> None:
        cell, path = method_class(cell.implementation).prepare(cell, job, tables["train"])
        self.cell, self.job, self.tables, self.report = cell, job, tables, report
        stage_name, seed, world = job.stage, job.seed, job.world
        self.stage: Stage = getattr(cell, stage_name)
        scorers = {"classifier": self._classified, "retrieval": self._retrieved}
        self.score = scorers.get(cell.scored_by) if stage_name == cell.last_stage else None
        seeding.seed_everything(seed)  # the same initial weights on every rank
        method = build_method(cell)
        method.check_data(tables["train"].sample())
        if initial is not None:
            method.load_state_dict(initial)
        seeding.seed_everything(seed, world.rank)
        self.generator = seeding.named_generator(seed, stage_name)
        train = replace(tables["train"], labels=method.learnable(tables["train"].labels))
        self.feed = make_feed(cell, self.stage, train, world, seed)
        steps = self.stage.epochs * self.feed.steps
        self.engine: Engine = make_engine(method, self.stage, steps, cell.engine, world)
        self.run = SeedRun(EpochTensors(job.state / KEPT), path)
        self.epoch, self.step = 0, 0  # the step within the epoch
        self.sums: dict[str, list[float]] = {}  # term -> [sum, number] over the epoch's steps so far that have it
        self.unread: list[dict[str, Tensor]] = []  # terms of steps after those in the sums
        self.saving_seconds = 0.0

    def train(self) -> SeedRun:
        """Run to the last epoch, from the newest checkpoint if there is one.

        Raises DivergedError: the loss is not finite; the newest checkpoint is from before that; StoppedError: it was
        asked to stop, and has saved its state.
        """
        self._resume()
        while self.epoch < self.stage.epochs:
            terms = self._epoch()
            self.run.history += [(self.epoch, f"train/{name}", value) for name, value in terms.items()]
            last = self.epoch == self.stage.epochs - 1
            if self.score is not None and (last or (self.epoch + 1) % self.stage.eval_every == 0):
                self._evaluate(self.score)
            self.report(self.epoch, terms)
            self.epoch += 1
            if last or self.epoch % self.stage.checkpoint_every == 0:
                self._save()
        if self.stage.epochs == 0:
            self.run.weights = self.engine.full_state()
        self.engine.close()
        return self.run

    def _epoch(self) -> dict[str, float]:
        """One pass over the training rows, from the step it stands at; a term's mean is over the steps that have it."""
        steps = self.feed.steps
        order = seeding.named_generator(self.job.seed, self.job.stage, "order", self.epoch)
        for batch, rows in self.feed.epoch(self.epoch, order, self.step):
            job, epochs = self.job, self.stage.epochs
            progress = Progress(job.stage, self.epoch, epochs, self.generator, job.world.gather, rows)
            terms = self.engine.forward(batch, progress)
            self.unread.append({name: t.detach() for name, t in terms.items()})
            if self.job.world.device.type == "cpu" or len(self.unread) == UNREAD or self.step == steps - 1:
                self._read()
            self.engine.step(terms["loss"])
            self.step += 1
            if self.job.stop.agreed(self.job.world):
                self._read()
                self._save()
                raise StoppedError(
                    f"{self.cell.name}, {self.job.stage}, seed {self.job.seed}: stopped at epoch {self.epoch} of "
                    f"{self.stage.epochs}, after step {self.step} of {steps}; the state is in {self.job.state}. Run "
                    "the same command again to go on."
                )
        terms = {name: total / count for name, (total, count) in self.sums.items()}
        self.step, self.sums = 0, {}
        return terms

    def _read(self) -> None:
        """Add the unread terms to the sums, with one wait for the device; DivergedError if a loss is not finite."""
        flat = [t for terms in self.unread for t in terms.values()]
        on_cpu = self.job.world.device.type == "cpu"
        read = iter(map(float, flat) if on_cpu else torch.stack([t.double() for t in flat]).tolist() if flat else ())
        for terms in self.unread:
            values = {name: next(read) for name in terms}
            if not math.isfinite(values["loss"]):
                step = self.sums.get("loss", [0.0, 0])[1]
                found = ", ".join(f"{k} = {v:g}" for k, v in values.items())
                raise DivergedError(
                    f"{self.cell.name}, {self.job.stage}, seed {self.job.seed}: the loss is not finite at epoch "
                    f"{self.epoch}, step {step:.0f} of {self.feed.steps} ({found}). Checkpoints from before it are "
                    f"kept in {self.job.state}. Lower the learning rate, raise the temperature, or set "
                    "gradient_clipping."
                )
            for name, value in values.items():
                total, count = self.sums.get(name, (0.0, 0))
                self.sums[name] = [total + value, count + 1]
        self.unread = []

    def _evaluate(self, score: Callable[[Method, str], list[float]]) -> None:
        """Outputs on val and test; the weights are kept if validation has not been better before."""
        key = None
        with self.engine.whole() as method:
            for split in EVALUATED:
                if len(self.tables[split]):
                    found = score(cast(Method, method), split)
                    key = found if split == "val" else key
        if key is not None and (self.run.best_key is None or key > self.run.best_key):
            self.run.best_key, self.run.best_epoch = key, self.epoch
            self.run.weights = self.engine.full_state()

    def _classified(self, method: Method, split: str) -> list[float]:
        """Keep the split's probabilities; how well they did."""
        table = self.tables[split]
        probs = predict(method, table, self.job.world.device)
        if self.job.world.rank == 0:
            self.run.kept[self.epoch, split] = probs
        return list(selection_key(table.labels.numpy(), probs.numpy(), self.cell.metrics[0]))

    def _retrieved(self, method: Method, split: str) -> list[float]:
        """Keep the embeddings of the split's observations; how well they did."""
        found = embed_observations(method, self.tables[split], self.job.world.device)
        for m, (z, instance) in found.items() if self.job.world.rank == 0 else ():
            self.run.kept[self.epoch, split, m], self.run.instance[split, m] = z, instance
        return retrieval_key(self.cell, found)

    def _save(self) -> None:
        before = time.perf_counter()
        if self.epoch == self.stage.epochs and self.run.best_key is None:
            self.run.best_epoch, self.run.weights = self.epoch - 1, self.engine.full_state()
        payload = {
            "epoch": self.epoch,
            "step": self.step,
            "sums": dict(self.sums),
            "engine": self.engine.state_dict(),
            "generator": self.generator.get_state(),
            "random": seeding.random_state(),
            "run": self.run.payload(),
        }
        job = self.job
        checkpoint.save(job.state, self.epoch, payload, job.fingerprint, job.world, self.run.kept.sums())
        self.saving_seconds += time.perf_counter() - before

    def _resume(self) -> None:
        payload = checkpoint.load_latest(self.job.state, self.job.fingerprint, self.job.world)
        if payload is None:
            return
        self.engine.load_state_dict(payload["engine"])
        self.generator.set_state(payload["generator"])
        seeding.restore(payload["random"])
        kept = EpochTensors(self.job.state / KEPT, payload["run"]["kept"])
        self.run = SeedRun(**payload["run"] | {"kept": kept})
        self.epoch, self.step, self.sums = int(payload["epoch"]), int(payload["step"]), dict(payload["sums"])
        within = f" and step {self.step} of {self.feed.steps}" if self.step else ""
        log.info("seed %d: resumed after epoch %d of %d%s", self.job.seed, self.epoch, self.stage.epochs, within)
