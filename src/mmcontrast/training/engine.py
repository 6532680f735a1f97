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

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mmcontrast import config
from mmcontrast.errors import ConfigError, DivergedError
from mmcontrast.training.distributed import World

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


def parameter_groups(module: nn.Module, lr: float, apart: bool = False) -> list[dict[str, Any]]:
    """The module's trained parameters by their learning rate (`base_lr`): `lr`, or what a part has of its own.

    A part says so by an attribute `own_learning_rate`; of parts within each other the innermost counts. apart: a group
    per parameter, in the order of the parameters.
    """
    rates: dict[int, float] = {}
    for part in module.modules():
        if (own := getattr(part, "own_learning_rate", None)) is not None:
            rates |= {id(p): own for p in part.parameters()}
    trained = [p for p in module.parameters() if p.requires_grad]
    if apart:
        return [{"params": [p], "base_lr": rates.get(id(p), lr)} for p in trained]
    groups: dict[float, list[nn.Parameter]] = {}
    for p in trained:
        groups.setdefault(rates.get(id(p), lr), []).append(p)
    return [{"params": params, "base_lr": rate} for rate, params in groups.items()]


def make_optimizer(groups: Sequence[Mapping[str, Any]], settings: config.Optimizer) -> torch.optim.Optimizer:
    """A torch optimizer over parameter groups, as `parameter_groups` makes them.

    With `decay: matrices` parameters of fewer than two axes (biases, norms) are in a group of their own, without decay.
    Adam's weight decay is added to the gradient (L2); AdamW's is decoupled. SGD has no momentum.
    """
    kwargs: dict[str, Any] = {"lr": settings.lr, "weight_decay": settings.weight_decay, "fused": settings.fused or None}
    if settings.decay == "matrices":
        groups = [part for group in groups for part in _by_decay(group)]
    return OPTIMIZERS[settings.name]([dict(g) for g in groups], **kwargs)


def _by_decay(group: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The group's parameters of two axes or more, and the others without weight decay; no group is empty."""
    parts = [p for p in group["params"] if p.ndim > 1], [p for p in group["params"] if p.ndim < 2]
    return [
        {**group, "params": params, **extra}
        for params, extra in zip(parts, ({}, {"weight_decay": 0.0}), strict=True)
        if params
    ]


def learning_rate_factor(schedule: config.Schedule, steps: int) -> Callable[[int], float]:
    """Factor on the learning rate of step 0 .. steps - 1.

    Warm-up: (t + 1) / w over the first w = round(warmup * steps) steps, so that no step is wasted at 0 and step w - 1
    has the full rate. After it constant, or half a cosine that would reach 0 at step `steps`.
    """
    warm = round(schedule.warmup * steps)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        if schedule.name == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))
        return 1.0

    return factor


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """The rate of each group, times the schedule's factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


class InPrecision(nn.Module):
    """A module whose forward pass runs under autocast where the precision asks for it."""

    def __init__(self, module: nn.Module, precision: str, device: torch.device) -> None:
        super().__init__()
        self.module = module
        self.bf16, self.device_type = precision == "bf16", device.type

    def forward(self, *args: Any) -> Any:
        with torch.autocast(self.device_type, dtype=torch.bfloat16, enabled=self.bf16):
            return self.module(*args)


class Engine:
    """On plain torch, the reference that DeepSpeed's must equal; gradients are averaged over ranks.

    To call anything but the forward pass of `module`, use `whole()`.
    """

    def __init__(
        self,
        module: nn.Module,
        stage: config.Stage,
        steps: int,
        engine: config.Engine,
        world: World,
        apart: bool = False,
    ) -> None:
        self.world, self.module = world, module.to(world.device)
        if world.size > 1:
            for tensor in [*module.parameters(), *module.buffers()]:
                torch.distributed.broadcast(tensor.data, src=0)
        self._wrapped: Any = InPrecision(module, engine.precision, world.device)
        self._params = [p for p in module.parameters() if p.requires_grad]
        # what the optimizer updates on this rank: one tensor a parameter, in the order of the parameters
        self._masters: Sequence[Tensor] = self._params
        groups = parameter_groups(module, stage.optimizer.lr, apart)
        self._optimizer = make_optimizer(groups, stage.optimizer)
        self._clip = stage.gradient_clipping
        self._factor = learning_rate_factor(stage.schedule, steps)
        self._steps = 0

    def forward(self, *args: Any) -> Any:
        """The module's forward pass, in the stage's precision."""
        return self._wrapped(*args)

    def step(self, loss: Tensor) -> float:
        """Backward pass, clipping, optimizer, schedule; the gradient norm before clipping, nan where none is clipped.

        Raises TrainingError: a gradient is not finite, where it is to be clipped or ZeRO 1-3 would leave the step out.
        """
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
        """Context that gives the module with all its weights (ZeRO 3: a copy), to evaluate it; all ranks must enter."""
        yield self.module

    def full_state(self) -> dict[str, Tensor]:
        """All weights and buffers on the CPU, copied; every rank must call it, rank 0 alone gets them."""
        with self.whole() as module:
            return cpu_copy(module.state_dict()) if self.world.rank == 0 else {}

    def state_dict(self) -> dict[str, Any]:
        """Model, optimizer and schedule of this rank, as `checkpoint.save` accepts them."""
        return {
            "steps": self._steps,
            "module": cpu_copy(self.module.state_dict()),
            "optimizer": [cpu_copy(self._optimizer.state[m]) for m in self._masters],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`, for an engine of the same configuration, rank and number of ranks."""
        self.module.load_state_dict(state["module"])
        self.restore_steps(state)

    def restore_steps(self, state: dict[str, Any]) -> None:
        """Of `load_state_dict`, all but the weights."""
        # Adam counts steps on the CPU unless its kernels are fused
        apart = not self._optimizer.defaults.get("fused")
        for p, saved in zip(self._masters, state["optimizer"], strict=True):
            self._optimizer.state[p] = {
                k: v.to("cpu" if k == "step" and apart else p.device).clone() if isinstance(v, Tensor) else v
                for k, v in saved.items()
            }
        self._steps = int(state["steps"])

    def close(self) -> None:
        """Let go of what the engine holds. The module's weights may be gone after it (ZeRO 3)."""
        self._optimizer.zero_grad(set_to_none=True)


def average_gradients(params: list[nn.Parameter], world: World) -> None:
    """Mean over ranks of every gradient, in one exchange; one missing on some is zero there, on all it stays so."""
    if world.size == 1:
        return
    present = torch.tensor([float(p.grad is not None) for p in params], device=world.device)
    flat = torch.cat([present, *(torch.zeros_like(p).view(-1) if p.grad is None else p.grad.view(-1) for p in params)])
    torch.distributed.all_reduce(flat)
    present, *means = flat.split([len(params), *(p.numel() for p in params)])
    for p, seen, mean in zip(params, present.tolist(), means, strict=True):
        p.grad = (mean / world.size).view_as(p) if seen else None


def make_engine(module: nn.Module, stage: config.Stage, steps: int, engine: config.Engine, world: World) -> Engine:
    """An engine for one stage. The module is moved to the world's device; rank 0's weights become everybody's.

    Parameters that do not require a gradient stay as they are. steps: of the whole stage, for the schedule.
    Raises ConfigError: nothing to train.
    """
    if not any(p.requires_grad for p in module.parameters()):
        raise ConfigError("no parameter of the module requires a gradient: nothing to train")
    if engine.backend == "deepspeed":
        from mmcontrast.training.deepspeed_engine import DeepSpeedEngine

        return DeepSpeedEngine(module, stage, steps, engine, world)
    return Engine(module, stage, steps, engine, world)


def clip_gradients(params: list[nn.Parameter], largest: float) -> float:
    """Scale all gradients so that their joint 2-norm, which is returned, is at most `largest`; 0 = off, and gives nan.

    Raises DivergedError: the norm is not finite.
    """
    return finite_norm(float(nn.utils.clip_grad_norm_(params, largest))) if largest else float("nan")


def finite_norm(norm: float) -> float:
    """The norm itself; DivergedError where it is not finite."""
    if not math.isfinite(norm):
        raise DivergedError(
            f"the gradient norm is {norm}: a gradient is not finite although the loss is; lower optimizer.lr, or look "
            "for a root or a logarithm at 0 in the loss"
        )
    return norm


def cpu_copy(tensors: dict[str, Any]) -> dict[str, Any]:
    """The same mapping with its tensors copied to the CPU."""
    return {k: v.detach().cpu().clone() if isinstance(v, Tensor) else v for k, v in tensors.items()}
