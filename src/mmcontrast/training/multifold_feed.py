"""Batches of multifold data: drawn by instance or by caption, this rank's share as tensors.

Shapes: N units of a batch (instances, or rows of the anchor), P rows of a modality.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import tee

import numpy as np
import torch
from torch import Tensor

from mmcontrast.config import CellConfig, Stage
from mmcontrast.data.inputs import Part, part
from mmcontrast.data.loading import Table
from mmcontrast.data.sampling import CaptionSampler, InstanceSampler, Rows
from mmcontrast.errors import ConfigError, nearest
from mmcontrast.methods.base import Batch
from mmcontrast.training.distributed import World
from mmcontrast.training.reading import Unread, read


def _sampler(table: Table, stage: Stage, seed: int, where: str) -> InstanceSampler | CaptionSampler:
    """Different instances per batch, or observations of the anchor in random order, as `stage.sampling` says."""
    counts, spec = _counts(table), stage.sampling
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

    Raises:
        ConfigError: `sampling` does not fit the data.
        DataError: an id is not unique, an instance has no observation, or texts are not tokenised.
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

    def _shard(self, rows: dict[str, Rows]) -> tuple[Unread, slice]:
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

    def _part(self, modality: str, drawn: Rows, instance_P: Tensor, mine: Tensor) -> Part:
        if modality in self.table.inputs:
            return part(self.table.inputs[modality], instance_P, mine)
        of = self.table.observations[modality]
        return part(of.flat, of.offsets[instance_P] + torch.from_numpy(drawn.observation), mine)


def _counts(table: Table) -> dict[str, np.ndarray]:
    """modality -> observations of each instance, in the dataset's order; 1 where the modality is not multifold."""
    ones = np.ones(len(table), dtype=np.int64)
    return {m: table.observations[m].counts.numpy() if m in table.observations else ones for m in table.modalities}


def _units(rows: dict[str, Rows], by_row: bool) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(N,) instance of each unit in the order of the batch, and modality -> (P,) unit of each row."""
    some = next(iter(rows.values()))
    if by_row:
        return some.instance, {m: np.arange(len(drawn.instance)) for m, drawn in rows.items()}
    starts = np.flatnonzero(np.r_[True, some.instance[1:] != some.instance[:-1]])
    units_N = some.instance[starts]
    place = {int(instance): k for k, instance in enumerate(units_N)}
    return units_N, {m: np.array([place[int(i)] for i in drawn.instance]) for m, drawn in rows.items()}
