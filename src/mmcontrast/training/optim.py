"""Optimizer and learning rate of a stage: the same objects whichever engine takes the steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mmcontrast import config

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


def parameter_groups(module: nn.Module, lr: float, apart: bool = False) -> list[dict[str, Any]]:
    """The module's trained parameters by their learning rate (`base_lr`), which a part may have of its own.

    A part says so by an attribute `own_learning_rate`; of parts within each other the innermost counts.

    Args:
        lr: of all others. apart: a group per parameter, in the order of the parameters.
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
