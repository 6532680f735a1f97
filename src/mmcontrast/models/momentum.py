"""A slowly following copy of a network, kept in its owner's state and so in every checkpoint."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def frozen_copy(module: Network) -> Network:
    """A copy whose parameters are buffers: saved and moved with the rest, and seen by no optimizer."""
    out = copy.deepcopy(module)
    for part in out.modules():
        for name, parameter in list(part._parameters.items()):
            del part._parameters[name]
            part.register_buffer(name, None if parameter is None else parameter.detach().clone())
        if isinstance(part, nn.RNNBase):
            # torch's recurrent layers hold their weights in a second list, which must be the buffers too
            part._flat_weights = [getattr(part, name) for name in part._flat_weights_names]
    return out


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """teacher <- decay * teacher + (1 - decay) * student, for weights and running statistics; counters are copied.

    Args:
        teacher: a `frozen_copy` of `student`. decay: in [0, 1).
    """
    theirs = student.state_dict()
    for name, mine in teacher.state_dict().items():
        if torch.is_floating_point(mine):
            mine.lerp_(theirs[name], 1 - decay)
        else:
            mine.copy_(theirs[name])
