"""From a prepared split to batches: which rows make an epoch, and the rows of this rank as tensors.

What a loop trains on is a feed, chosen by the data in `make_feed`. It has no state: an epoch can be given again, to go
on in the middle of it.

Shapes: N rows of the training set, B rows of the global batch, b rows of this rank.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from mmcontrast.config import CellConfig, Stage
from mmcontrast.data.inputs import Rows, part
from mmcontrast.data.loading import Table
from mmcontrast.methods.base import Batch
from mmcontrast.training.distributed import World
from mmcontrast.training.multifold_feed import MultifoldFeed
from mmcontrast.training.reading import Unread, read

EVAL_ROWS = 1024
# where an instance has several rows, or a row may take an encoder a lot of memory
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


def unread_rows(table: Table, rows: Rows, shard: slice | None = None) -> Unread:
    """A batch of the table's rows; of multifold data with all observations of each.

    Args:
        shard: those of the rows that this rank takes; None = all.
    """
    table.refuse_texts()
    mine = rows if shard is None or isinstance(rows, slice) else rows[shard]
    parts = {name: part(x, rows, shard) for name, x in table.inputs.items()}
    ids = None
    if table.observations:
        numbers = torch.arange(len(table))[mine]
        ids = dict.fromkeys(parts, numbers)
        for name, of in table.observations.items():
            picked = of.of(numbers)
            parts[name], ids[name] = part(picked.flat, slice(None)), numbers[picked.instance]
    rest = Batch(
        {},
        table.labels[mine],
        ids,
        None if table.scenes is None else table.scenes[mine],
        {m: has[mine] for m, has in table.present.items()},
        {task: labels[mine] for task, labels in table.tasks.items()},
    )
    return {m: parts[m] for m in table.modalities}, rest


def rows_of(table: Table, rows: Rows, device: torch.device) -> Batch:
    """A batch of the table's rows, on the device; of multifold data with all observations of each."""
    return next(read([unread_rows(table, rows)], None, device))


def in_chunks(table: Table, device: torch.device) -> Iterator[Batch]:
    """All rows in order, in chunks that fit."""
    few = any(m.multifold or m.encoded or m.kind in ("sequence", "text") for m in table.modalities.values())
    step = EVAL_INSTANCES if few else EVAL_ROWS
    unread = (unread_rows(table, slice(start, start + step)) for start in range(0, len(table), step))
    return read(unread, table.decoders, device)


class RowFeed:
    """Every row once an epoch, in a fresh order; a row is an instance.

    Args:
        table: the training rows. batch_size: B, or `full`. world: the processes that share a batch.
    """

    def __init__(self, table: Table, batch_size: int | str, world: World) -> None:
        self.table, self.batch_size, self.world = table, batch_size, world

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return len(batches(len(self.table), self.batch_size, torch.Generator()))

    def epoch(self, epoch: int, generator: torch.Generator, start: int = 0) -> Iterator[tuple[Batch, slice]]:
        """The epoch's batches: the rows of this rank, and which rows of the global batch they are.

        Args:
            epoch: 0-based. generator: of this epoch's order alone, in the same state on every rank.
            start: the first step; nothing is read of those before it.
        """
        rest = batches(len(self.table), self.batch_size, generator)[start:]
        shards = [self.world.rows(len(rows)) for rows in rest]
        unread = (unread_rows(self.table, rows, shard) for rows, shard in zip(rest, shards, strict=True))
        return zip(read(unread, self.table.decoders, self.world.device), shards, strict=True)


def make_feed(cell: CellConfig, stage: Stage, table: Table, world: World, seed: int) -> RowFeed | MultifoldFeed:
    """The feed of a stage of the cell.

    Args:
        seed: of the run.
    """
    if table.observations:
        return MultifoldFeed(cell, stage, table, world, seed)
    return RowFeed(table, stage.batch_size, world)
