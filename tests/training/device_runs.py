"""Training on the pretend device: a small cell from its first step to its embeddings, and what each step costs it.

Used by test_pretend_device.py and by benchmarks/device_counts.py, in a process that has not trained before.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmcontrast.config import CellConfig
from mmcontrast.data.loading import Table, load_whole
from mmcontrast.methods.base import SeedJob, build_method
from mmcontrast.training.cell import _splits
from mmcontrast.training.checkpoint import SeedRun
from mmcontrast.training.distributed import StopRequest, World
from mmcontrast.training.loop import SeedTrainer
from mmcontrast.training.outputs import embed
from tests.training import resuming
from tests.training.pretend_device import COPY, SYNC, PretendDevice

STATE = Path("state")


def cell_of(case: str, precision: str) -> CellConfig:
    """The case of `resuming`, shorter still: two epochs of three steps."""
    cell = resuming.small(case)
    short = {stage: getattr(cell, stage).model_copy(update={"epochs": 2}) for stage in cell.stages}
    return cell.model_copy(update=short | {"engine": cell.engine.model_copy(update={"precision": precision})})


def _arrays(weights: dict[str, Tensor]) -> dict[str, Any]:
    return {name: w.numpy() for name, w in weights.items()}


class _Counted(SeedTrainer):
    """Keeps what the steps of each epoch cost, by place."""

    device: PretendDevice | None = None
    seen: ClassVar[list[tuple[int, Counter[tuple[str, str]]]]] = []

    def _epoch(self) -> dict[str, float]:
        before = self.device.counts.copy() if self.device else Counter()
        terms = super()._epoch()
        if self.device:
            self.seen.append((self.feed.steps, self.device.counts - before))
        return terms


def _most(kind: str) -> float:
    """Per step, in the epoch that has most."""
    return round(max(sum(n for (of, _), n in found.items() if of == kind) / steps for steps, found in _Counted.seen), 2)


def _trained(cell: CellConfig, tables: dict[str, Table], device: torch.device) -> SeedRun:
    """The last stage, from the newest checkpoint if there is one. An earlier stage counts as not trained."""
    job = SeedJob(cell.last_stage, cell.seeds[0], World(0, 1, device), STATE, "a fingerprint", StopRequest())
    return _Counted(cell, job, tables).train()


def _embedded(cell: CellConfig, run: SeedRun, tables: dict[str, Table], device: torch.device) -> int:
    """Rows of the embeddings of the test split, by the weights of the run."""
    if cell.scored_by == "retrieval":
        return len(run.kept)  # they were embedded when they were evaluated
    method = build_method(cell).to(device)
    method.load_state_dict(run.weights)
    return min(len(z) for z in embed(method, tables["test"], device).values())


def on_cpu(root: str, case: str, precision: str) -> list[tuple[int, str, float]]:
    """(epoch, term, mean) of the same run on the CPU."""
    os.chdir(root)
    shutil.rmtree(STATE, ignore_errors=True)
    cell = cell_of(case, precision)
    tables, _ = _splits(cell, load_whole(cell, Path(".")))(cell.seeds[0])
    _Counted.device = None
    return _trained(cell, tables, torch.device("cpu")).history


def on_device(root: str, case: str, precision: str) -> dict[str, Any]:
    """Train, evaluate, embed, then resume from the checkpoint before the last.

    Returns:
        copies, syncs: per step, in the epoch that has more. places: (kind, line) -> number. weights: as arrays.
        resumed: those of the run that was resumed. history: (epoch, term, mean). embeddings: number of rows.

    Raises:
        MixedDevicesError: an operation mixed devices.
    """
    os.chdir(root)
    shutil.rmtree(STATE, ignore_errors=True)
    cell = cell_of(case, precision)
    tables, _ = _splits(cell, load_whole(cell, Path(".")))(cell.seeds[0])
    with PretendDevice() as pretended:
        _Counted.device, _Counted.seen = pretended, []
        run = _trained(cell, tables, pretended.device)
        counts = {"copies": _most(COPY), "syncs": _most(SYNC)}
        places = sum((found for _, found in _Counted.seen), Counter[tuple[str, str]]())
        rows = _embedded(cell, run, tables, pretended.device)
        newest = max(STATE.glob("checkpoint-*"))
        shutil.rmtree(newest)
        resumed = _trained(cell, tables, pretended.device)
    return {
        **counts,
        "places": dict(places),
        "weights": _arrays(run.weights),
        "resumed": _arrays(resumed.weights),
        "history": run.history,
        "embeddings": rows,
    }
