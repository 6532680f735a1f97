"""Everything a short trial run changes, taken and put back: trials then start from the same bits."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Snapshot:
    """Copies; nothing in it is shared with what is being trained.

    Attributes:
        model: parameters AND buffers (batch statistics, queues). optimizer: its state, momentum included.
        generators: state of each named generator. rng: of torch's global generators, CPU and each CUDA device.
        training: module name -> training mode.
    """

    model: dict[str, Any]
    optimizer: dict[str, Any]
    generators: dict[str, torch.Tensor]
    rng: list[torch.Tensor]
    training: dict[str, bool]


def take_snapshot(
    model: nn.Module, optimizer: torch.optim.Optimizer, generators: Mapping[str, torch.Generator]
) -> Snapshot:
    """A copy of all state."""
    return Snapshot(
        model=copy.deepcopy(model.state_dict()),
        optimizer=copy.deepcopy(optimizer.state_dict()),
        generators={name: g.get_state().clone() for name, g in generators.items()},
        rng=[torch.get_rng_state().clone(), *(s.clone() for s in _cuda_states())],
        training={name: m.training for name, m in model.named_modules()},
    )


def restore_snapshot(
    snapshot: Snapshot,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    generators: Mapping[str, torch.Generator],
) -> None:
    """Put a snapshot back; it stays good for further restores."""
    model.load_state_dict(snapshot.model)
    # the optimizer keeps references to what it is given, and would train the snapshot along
    optimizer.load_state_dict(copy.deepcopy(snapshot.optimizer))
    for name, generator in generators.items():
        generator.set_state(snapshot.generators[name])
    torch.set_rng_state(snapshot.rng[0])
    for device, state in enumerate(snapshot.rng[1:]):
        torch.cuda.set_rng_state(state, device)
    for name, module in model.named_modules():
        module.training = snapshot.training[name]


def _cuda_states() -> list[torch.Tensor]:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
