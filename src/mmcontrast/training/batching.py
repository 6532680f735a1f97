"""From a prepared split to batches: which rows make an epoch, and the rows of this rank as tensors.

What a loop trains on is a Feed; one is chosen by the data and the stage in `make_feed`.

Shapes: N rows of the training set, B rows of the global batch, b rows of this rank.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from mmcontrast.config import CellConfig, Stage
from mmcontrast.data.loading import Table
from mmcontrast.errors import DataError
from mmcontrast.methods.base import Batch
from mmcontrast.training.distributed import World
from mmcontrast.training.multifold_feed import MultifoldFeed

EVAL_ROWS = 1024
# of multifold data, where an instance has several rows
EVAL_INSTANCES = 128


def batches(n: int, batch_size: int | str, generator: torch.Generator) -> list[Tensor]:
    """Row indices of an epoch's batches, in a fresh order.

    The rows are dealt into ceil(n / batch_size) batches whose sizes differ by at most one, so that every row is seen
    and no batch is too small to contrast. A full batch keeps the order of the data: the loss does not depend on it.
    """
    if batch_size == "full" or int(batch_size) >= n:
        return [torch.arange(n)]
    order = torch.randperm(n, generator=generator)
    return list(torch.tensor_split(order, math.ceil(n / int(batch_size))))


def rows_of(table: Table, index: Tensor | slice, device: torch.device) -> Batch:
    """A batch of the table's rows, on the device; of multifold data with all observations of each."""
    inputs = {name: x[index].to(device) for name, x in table.inputs.items()}
    labels = table.labels[index].to(device)
    scenes = None if table.scenes is None else table.scenes[index].to(device)
    if not table.observations:
        return Batch(inputs=inputs, labels=labels, scenes=scenes)
    rows = torch.arange(len(table))[index]
    ids = {name: rows.to(device) for name in inputs}
    for name, of in table.observations.items():
        picked = of.of(rows)
        if isinstance(picked.flat, list):
            raise DataError(f"modality '{name}' holds texts; they are made into word pieces first")
        inputs[name], ids[name] = picked.flat.to(device), rows[picked.instance].to(device)
    return Batch({m: inputs[m] for m in table.modalities}, labels, ids, scenes)


def in_chunks(table: Table, device: torch.device) -> Iterator[Batch]:
    """All rows in order, in chunks that fit."""
    step = EVAL_INSTANCES if table.observations else EVAL_ROWS
    for start in range(0, len(table), step):
        yield rows_of(table, slice(start, start + step), device)


class Feed(Protocol):
    """Batches of a training set. It has no state: an epoch can be given again, to go on in the middle of it."""

    @property
    def steps(self) -> int:
        """Batches per epoch."""

    def epoch(self, epoch: int, generator: torch.Generator) -> Iterator[tuple[Batch, slice]]:
        """The epoch's batches: the rows of this rank, and which rows of the global batch they are.

        Args:
            epoch: 0-based. generator: of this epoch's order alone, in the same state on every rank.
        """


class RowFeed:
    """Every row once an epoch, in a fresh order; a row is an instance.

    Args:
        table: the training rows. batch_size: B, or `full`. world: the processes that share a batch.
    """

    def __init__(self, table: Table, batch_size: int | str, world: World) -> None:
        self.table, self.batch_size, self.world = table, batch_size, world

    @property
    def steps(self) -> int:
        """See `Feed`."""
        return len(batches(len(self.table), self.batch_size, torch.Generator()))

    def epoch(self, epoch: int, generator: torch.Generator) -> Iterator[tuple[Batch, slice]]:
        """See `Feed`."""
        for index in batches(len(self.table), self.batch_size, generator):
            rows = self.world.rows(len(index))
            yield rows_of(self.table, index[rows], self.world.device), rows


def make_feed(cell: CellConfig, stage: Stage, table: Table, world: World, seed: int) -> Feed:
    """The feed of a stage of the cell.

    Args:
        seed: of the run.
    """
    if table.observations:
        return MultifoldFeed(cell, stage, table, world, seed)
    return RowFeed(table, stage.batch_size, world)
