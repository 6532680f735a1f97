"""One object takes the steps of a stage, on plain torch or on DeepSpeed, with the same result.

What is the same for both, by construction:
- precision. Weights, gradients and optimizer state are fp32; `bf16` runs the forward pass under torch.autocast, which
  is switched on inside the module that either engine wraps. DeepSpeed itself is always told fp32: its own bf16 mode
  rounds the weights that the forward pass sees, and its torch_autocast mode rounds gradients before they are summed.
- the gradient norm is clipped to `gradient_clipping`, or left alone at 0. DeepSpeed clips to 1.0 where it is not told.
- a parameter that had no gradient in a step is not touched by it: no weight decay, no momentum, no step counted.
  DeepSpeed puts zeros for missing gradients, with which Adam's weight decay pulls an unused head to zero.
- the learning rate is set before each step from the step's number.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from torch import Tensor, nn

from mmcontrast import config
from mmcontrast.errors import ConfigError
from mmcontrast.training.distributed import World
from mmcontrast.training.torch_engine import TorchEngine


class Engine(Protocol):
    """What the loop knows of an engine.

    Attributes:
        world: the processes that share the work.
        module: the module as it was given. To call anything but its forward pass, use `whole()`.
    """

    world: World
    module: nn.Module

    def forward(self, *args: Any) -> Any:
        """The module's forward pass, in the stage's precision."""

    def step(self, loss: Tensor) -> float:
        """Backward pass, clipping, optimizer and schedule.

        Returns:
            The gradient norm before clipping, or nan where nothing is clipped.

        Raises:
            TrainingError: a gradient is not finite, where it is to be clipped or ZeRO 1-3 would leave the step out.
        """

    def whole(self) -> AbstractContextManager[nn.Module]:
        """Context that gives the module with all its weights on this rank, to evaluate it; every rank must enter it.

        Under ZeRO 3 it is a copy, `module` itself having only this rank's share between forward passes.
        """

    def full_state(self) -> dict[str, Tensor]:
        """All weights and buffers on the CPU, copied; every rank must call it, rank 0 alone gets them."""

    def state_dict(self) -> dict[str, Any]:
        """Model, optimizer and schedule of this rank, as `checkpoint.save` accepts them."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`, for an engine of the same configuration, rank and number of ranks."""

    def close(self) -> None:
        """Let go of what the engine holds. The module's weights may be gone after it (ZeRO 3)."""


def make_engine(module: nn.Module, stage: config.Stage, steps: int, engine: config.Engine, world: World) -> Engine:
    """An engine for one stage. The module is moved to the world's device; rank 0's weights become everybody's.

    Args:
        module: what is trained. Parameters that do not require a gradient stay as they are.
        stage: optimizer, schedule and clipping.
        steps: number of steps of the whole stage, for the schedule.
        engine: backend and precision.

    Raises:
        ConfigError: nothing to train, or fused kernels where the device has none.
    """
    if not any(p.requires_grad for p in module.parameters()):
        raise ConfigError("no parameter of the module requires a gradient: nothing to train")
    if engine.backend == "deepspeed":
        from mmcontrast.training.deepspeed_engine import DeepSpeedEngine

        return DeepSpeedEngine(module, stage, steps, engine, world)
    return TorchEngine(module, stage, steps, engine, world)
