"""From a prepared split to batches: which rows make an epoch, and the rows of this rank as tensors.

What a loop trains on is a feed, chosen by the data in `make_feed`. It has no state: an epoch can be given again, to go
on in the middle of it. What is to be decoded is decoded ahead, what is padded is padded alike.

Shapes: N rows of the training set or units of a batch (instances, or rows of the anchor), B rows of the global batch, b
rows of this rank, P rows of a modality.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import tee

import numpy as np
import torch
from torch import Tensor

from mmcontrast.config import CellConfig, Stage
from mmcontrast.data.inputs import Decoders, Part, Rows, encoded, part
from mmcontrast.data.loading import Table
from mmcontrast.data.sampling import CaptionSampler, InstanceSampler
from mmcontrast.data.sampling import Rows as Drawn
from mmcontrast.errors import ConfigError, nearest
from mmcontrast.methods.base import Batch
from mmcontrast.training.distributed import World

# a batch whose inputs are not read yet, of this rank's rows on the CPU: their parts, and a batch of all else
Unread = tuple[Mapping[str, Part], Batch]


def read(unread: Iterable[Unread], decoders: Decoders | None, device: torch.device) -> Iterator[Batch]:
    """The batches in order, on the device. The decoders take batches ahead of what is asked for."""
    if decoders is None:
        yield from (_batch(parts, batch, {}, device) for parts, batch in unread)
        return
    ahead, unread = tee(unread)
    for decoded, (parts, batch) in zip(decoders.decoded(encoded(parts) for parts, _ in ahead), unread, strict=True):
        yield _batch(parts, batch, decoded, device)


def _batch(parts: Mapping[str, Part], batch: Batch, decoded: Mapping[str, Tensor], device: torch.device) -> Batch:
    def move(x: Tensor) -> Tensor:
        # from pinned memory it goes on while this process does
        return x.to(device, non_blocking=True)

    return Batch(
        {m: move(decoded[m] if m in decoded else part.tensor()) for m, part in parts.items()},
        move(batch.labels),
        None if batch.ids is None else {m: move(i) for m, i in batch.ids.items()},
        None if batch.scenes is None else move(batch.scenes),
        {m: move(has) for m, has in batch.present.items()},
        {task: move(labels) for task, labels in batch.tasks.items()},
    )


EVAL_ROWS = 1024
# where an instance has several rows, or a row may take an encoder a lot of memory
EVAL_INSTANCES = 128


def batches(n: int, batch_size: int | str, generator: torch.Generator) -> list[Tensor]:
    """Row indices of an epoch's ceil(n / batch_size) batches, in a fresh order; a full batch keeps that of the data.

    Sizes differ by at most one, so that every row is seen and no batch is too small to contrast.
    """
    if batch_size == "full" or int(batch_size) >= n:
        return [torch.arange(n)]
    order = torch.randperm(n, generator=generator)
    return list(torch.tensor_split(order, math.ceil(n / int(batch_size))))


def unread_rows(table: Table, rows: Rows, shard: slice | None = None) -> Unread:
    """A batch of the rows that this rank takes, None = all; of multifold data with all observations of each."""
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
    """Every row of the training table once an epoch, in a fresh order; a row is an instance. batch_size: or `full`."""

    def __init__(self, table: Table, batch_size: int | str, world: World) -> None:
        self.table, self.batch_size, self.world = table, batch_size, world

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return len(batches(len(self.table), self.batch_size, torch.Generator()))

    def epoch(self, epoch: int, generator: torch.Generator, start: int = 0) -> Iterator[tuple[Batch, slice]]:
        """The epoch's batches, from step `start` on: this rank's rows, and which rows of the global batch they are.

        epoch: 0-based. generator: of this epoch's order alone, in the same state on every rank.
        """
        rest = batches(len(self.table), self.batch_size, generator)[start:]
        shards = [self.world.rows(len(rows)) for rows in rest]
        unread = (unread_rows(self.table, rows, shard) for rows, shard in zip(rest, shards, strict=True))
        return zip(read(unread, self.table.decoders, self.world.device), shards, strict=True)


def make_feed(cell: CellConfig, stage: Stage, table: Table, world: World, seed: int) -> RowFeed | MultifoldFeed:
    """The feed of a stage of the cell, for a run of this seed."""
    if table.observations:
        return MultifoldFeed(cell, stage, table, world, seed)
    return RowFeed(table, stage.batch_size, world)


def _sampler(table: Table, stage: Stage, seed: int, where: str) -> InstanceSampler | CaptionSampler:
    """Different instances per batch, or observations of the anchor in random order, as `stage.sampling` says."""
    spec, ones = stage.sampling, np.ones(len(table), dtype=np.int64)  # of a modality that is not multifold
    counts = {m: table.observations[m].counts.numpy() if m in table.observations else ones for m in table.modalities}
    n = int(counts[spec.anchor].sum()) if spec.anchor in counts else len(table)
    size = n if stage.batch_size == "full" else min(stage.batch_size, n)
    if spec.by == "caption":
        if spec.anchor not in counts:
            raise ConfigError(
                f"{where}.sampling.anchor: no modality '{spec.anchor}'; {nearest(str(spec.anchor), counts)}"
            )
        return CaptionSampler(counts, table.ids, anchor=spec.anchor, batch_size=size, seed=seed)
    wanted = spec.per_instance
    per_instance = dict.fromkeys(counts, wanted) if isinstance(wanted, int) else wanted
    if set(per_instance) != set(counts):
        raise ConfigError(
            f"{where}.sampling.per_instance: names {sorted(per_instance)}, and the modalities are {sorted(counts)}"
        )
    return InstanceSampler(counts, table.ids, batch_size=size, per_instance=per_instance, seed=seed, short=spec.short)


class MultifoldFeed:
    """As `batching.RowFeed`; which rows a batch has is a pure function of seed, epoch and step.

    Raises ConfigError: `sampling` does not fit the data; DataError: an instance has no observation, or texts are not
    tokenised.
    """

    def __init__(self, cell: CellConfig, stage: Stage, table: Table, world: World, seed: int) -> None:
        where = f"params/methods/{cell.method}.yaml ({cell.name}): pretrain"
        table.refuse_texts()
        self.table, self.world = table, world
        self.sampler = _sampler(table, stage, seed, where)

    @property
    def steps(self) -> int:
        """Batches per epoch; what is left over after the last full batch is not seen in that epoch."""
        return len(self.sampler)

    def epoch(self, epoch: int, generator: torch.Generator, start: int = 0) -> Iterator[tuple[Batch, slice]]:
        """As `batching.RowFeed.epoch`; the generator is not drawn from."""
        drawn = (self._shard(self.sampler.batch(epoch, step)) for step in range(start, self.steps))
        unread, shards = tee(drawn)
        batches = read((batch for batch, _ in unread), self.table.decoders, self.world.device)
        return zip(batches, (shard for _, shard in shards), strict=True)

    def _shard(self, rows: dict[str, Drawn]) -> tuple[Unread, slice]:
        """This rank's units: instances where rows differ in number, else rows."""
        units_N, of_row = _units(rows, by_row=isinstance(self.sampler, CaptionSampler))
        shard = self.world.rows(len(units_N))
        parts, ids, has = {}, {}, {}
        for m, drawn in rows.items():
            mine = torch.from_numpy((of_row[m] >= shard.start) & (of_row[m] < shard.stop))
            instance_P = torch.from_numpy(drawn.instance)
            parts[m], ids[m] = self._part(m, drawn, instance_P, mine), instance_P[mine]
            if m in self.table.present:
                has[m] = self.table.present[m][ids[m]]
        labels = self.table.labels[torch.from_numpy(units_N[shard])]
        return (parts, Batch({}, labels, ids, None, has)), shard

    def _part(self, modality: str, drawn: Drawn, instance_P: Tensor, mine: Tensor) -> Part:
        if modality in self.table.inputs:
            return part(self.table.inputs[modality], instance_P, mine)
        of = self.table.observations[modality]
        return part(of.flat, of.offsets[instance_P] + torch.from_numpy(drawn.observation), mine)


def _units(rows: dict[str, Drawn], by_row: bool) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(N,) instance of each unit in the order of the batch, and modality -> (P,) unit of each row."""
    some = next(iter(rows.values()))
    if by_row:
        return some.instance, {m: np.arange(len(drawn.instance)) for m, drawn in rows.items()}
    starts = np.flatnonzero(np.r_[True, some.instance[1:] != some.instance[:-1]])
    units_N = some.instance[starts]
    place = {int(instance): k for k, instance in enumerate(units_N)}
    return units_N, {m: np.array([place[int(i)] for i in drawn.instance]) for m, drawn in rows.items()}
