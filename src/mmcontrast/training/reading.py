"""From a plan of batches to their tensors: what is to be decoded is decoded ahead, what is padded is padded alike.

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
class Plan:
    """A batch whose inputs are not read yet: the rows of this rank. Attributes as those of `Batch`, on the CPU."""

    parts: Mapping[str, Part]
    labels: Tensor
    ids: Mapping[str, Tensor] | None = None
    scenes: Tensor | None = None
    present: Mapping[str, Tensor] = field(default_factory=dict)


def read(plans: Iterable[Plan], decoders: Decoders | None, device: torch.device) -> Iterator[Batch]:
    """The batches in order, on the device. The decoders draw plans ahead of what is asked for."""
    if decoders is None:
        yield from (_batch(plan, {}, device) for plan in plans)
        return
    ahead, plans = tee(plans)
    for decoded, plan in zip(decoders.decoded(encoded(plan.parts) for plan in ahead), plans, strict=True):
        yield _batch(plan, decoded, device)


def _batch(plan: Plan, decoded: Mapping[str, Tensor], device: torch.device) -> Batch:
    def move(x: Tensor) -> Tensor:
        # from pinned memory it goes on while this process does
        return x.to(device, non_blocking=True)

    return Batch(
        {m: move(decoded[m] if m in decoded else part.tensor()) for m, part in plan.parts.items()},
        move(plan.labels),
        None if plan.ids is None else {m: move(i) for m, i in plan.ids.items()},
        None if plan.scenes is None else move(plan.scenes),
        {m: move(has) for m, has in plan.present.items()},
    )
