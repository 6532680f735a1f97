"""From the rows of batches to their tensors: what is to be decoded is decoded ahead, what is padded is padded alike.

Shapes: b rows of this rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import tee

import torch
from torch import Tensor

from mmcontrast.data.decoding import Decoders, encoded
from mmcontrast.data.inputs import Part
from mmcontrast.methods.base import Batch


@dataclass(frozen=True)
class UnreadBatch:
    """A batch whose inputs are not read yet: the rows of this rank. Attributes as those of `Batch`, on the CPU."""

    parts: Mapping[str, Part]
    labels: Tensor
    ids: Mapping[str, Tensor] | None = None
    scenes: Tensor | None = None
    present: Mapping[str, Tensor] = field(default_factory=dict)
    tasks: Mapping[str, Tensor] = field(default_factory=dict)


def read(unread: Iterable[UnreadBatch], decoders: Decoders | None, device: torch.device) -> Iterator[Batch]:
    """The batches in order, on the device. The decoders take batches ahead of what is asked for."""
    if decoders is None:
        yield from (_batch(batch, {}, device) for batch in unread)
        return
    ahead, unread = tee(unread)
    for decoded, batch in zip(decoders.decoded(encoded(batch.parts) for batch in ahead), unread, strict=True):
        yield _batch(batch, decoded, device)


def _batch(batch: UnreadBatch, decoded: Mapping[str, Tensor], device: torch.device) -> Batch:
    def move(x: Tensor) -> Tensor:
        # from pinned memory it goes on while this process does
        return x.to(device, non_blocking=True)

    return Batch(
        {m: move(decoded[m] if m in decoded else part.tensor()) for m, part in batch.parts.items()},
        move(batch.labels),
        None if batch.ids is None else {m: move(i) for m, i in batch.ids.items()},
        None if batch.scenes is None else move(batch.scenes),
        {m: move(has) for m, has in batch.present.items()},
        {task: move(labels) for task, labels in batch.tasks.items()},
    )
