"""What both engines do in the same way: precision, clipping, and what a checkpoint takes and gives back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmcontrast.errors import DivergedError
from mmcontrast.training.distributed import World


class InPrecision(nn.Module):
    """A module whose forward pass runs under autocast where the precision asks for it."""

    def __init__(self, module: nn.Module, precision: str, device: torch.device) -> None:
        super().__init__()
        self.module = module
        self.bf16, self.device_type = precision == "bf16", device.type

    def forward(self, *args: Any) -> Any:
        with torch.autocast(self.device_type, dtype=torch.bfloat16, enabled=self.bf16):
            return self.module(*args)


def broadcast_weights(module: nn.Module, world: World) -> None:
    """Rank 0's parameters and buffers, on every rank."""
    if world.size > 1:
        for tensor in [*module.parameters(), *module.buffers()]:
            torch.distributed.broadcast(tensor.data, src=0)


def clip_gradients(params: list[nn.Parameter], largest: float) -> float:
    """Scale all gradients so that their joint 2-norm is at most `largest`; 0 = off.

    Returns:
        The norm before clipping, or nan where it is off.

    Raises:
        DivergedError: the norm is not finite.
    """
    if not largest:
        return float("nan")
    return finite_norm(float(nn.utils.clip_grad_norm_(params, largest)))


def finite_norm(norm: float) -> float:
    """The norm itself.

    Raises:
        DivergedError: it is not finite.
    """
    if not math.isfinite(norm):
        raise DivergedError(
            f"the gradient norm is {norm}: a gradient is not finite although the loss is; lower optimizer.lr, or look "
            "for a root or a logarithm at 0 in the loss"
        )
    return norm


def cpu_copy(tensors: dict[str, Any]) -> dict[str, Any]:
    """The same mapping with its tensors copied to the CPU."""
    return {k: v.detach().cpu().clone() if isinstance(v, Tensor) else v for k, v in tensors.items()}


def restore_optimizer(
    optimizer: torch.optim.Optimizer, masters: Sequence[Tensor], states: list[dict[str, Any]]
) -> None:
    """Put back the optimizer's state of each parameter. Adam counts steps on the CPU unless its kernels are fused."""
    for p, saved in zip(masters, states, strict=True):
        optimizer.state[p] = {
            k: v.to("cpu" if k == "step" and not optimizer.defaults.get("fused") else p.device).clone()
            if isinstance(v, Tensor)
            else v
            for k, v in saved.items()
        }
