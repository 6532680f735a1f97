"""From the rows of batches to their tensors: what is to be decoded is decoded ahead, what is padded is padded alike.

Shapes: b rows of this rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import tee

import torch
from torch import Tensor

from mmcontrast.data.inputs import Decoders, Part, encoded
from mmcontrast.methods.base import Batch

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
