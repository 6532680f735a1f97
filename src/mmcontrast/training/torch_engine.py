"""The engine on plain torch, the reference that DeepSpeed's must equal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mmcontrast import config
from mmcontrast.training.distributed import World
from mmcontrast.training.optim import learning_rate_factor, make_optimizer, parameter_groups, set_learning_rate
from mmcontrast.training.stepping import InPrecision, broadcast_weights, clip_gradients, cpu_copy, restore_optimizer


class TorchEngine:
    """Plain torch; gradients are averaged over ranks."""

    def __init__(self, module: nn.Module, stage: config.Stage, steps: int, engine: config.Engine, world: World) -> None:
        self.world = world
        self.module = module.to(world.device)
        broadcast_weights(self.module, world)
        self._wrapped = InPrecision(self.module, engine.precision, world.device)
        self._params = [p for p in module.parameters() if p.requires_grad]
        self._optimizer = make_optimizer(parameter_groups(module, stage.optimizer.lr), stage.optimizer)
        self._clip = stage.gradient_clipping
        self._factor = learning_rate_factor(stage.schedule, steps)
        self._steps = 0

    def forward(self, *args: Any) -> Any:
        return self._wrapped(*args)

    def step(self, loss: Tensor) -> float:
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(self._params, self.world)
        norm = clip_gradients(self._params, self._clip)
        set_learning_rate(self._optimizer, self._factor(self._steps))
        self._optimizer.step()
        self._steps += 1
        return norm

    @contextmanager
    def whole(self) -> Iterator[nn.Module]:
        yield self.module

    def full_state(self) -> dict[str, Tensor]:
        return cpu_copy(self.module.state_dict()) if self.world.rank == 0 else {}

    def state_dict(self) -> dict[str, Any]:
        return {
            "steps": self._steps,
            "module": cpu_copy(self.module.state_dict()),
            "optimizer": [cpu_copy(self._optimizer.state[p]) for p in self._params],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["module"])
        restore_optimizer(self._optimizer, self._params, state["optimizer"])
        self._steps = int(state["steps"])

    def close(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)


def average_gradients(params: list[nn.Parameter], world: World) -> None:
    """Mean over ranks of every gradient, in one exchange.

    A gradient missing on some ranks counts as zero there; missing on all, it stays missing.
    """
    if world.size == 1:
        return
    present = torch.tensor([float(p.grad is not None) for p in params], device=world.device)
    flat = torch.cat([present, *(torch.zeros_like(p).view(-1) if p.grad is None else p.grad.view(-1) for p in params)])
    torch.distributed.all_reduce(flat)
    present, *means = flat.split([len(params), *(p.numel() for p in params)])
    for p, seen, mean in zip(params, present.tolist(), means, strict=True):
        p.grad = (mean / world.size).view_as(p) if seen else None
