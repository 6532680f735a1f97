"""A small method for the engines' tests: two encoders, an InfoNCE term over gathered rows, a head that may go unused.

Shapes: B rows of the global batch, b rows of this rank, D width, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcontrast import config
from mmcontrast.training.distributed import World
from mmcontrast.training.engine import Engine, make_engine

CLASSES = 5
INPUTS = {"a": 20, "b": 30}


class Toy(nn.Module):
    """`temperature` has one axis, which ZeRO 3 needs. `seen` is the type of the encoders' output."""

    def __init__(self, width: int = 24, dropout: float = 0.0, hidden: int = 32) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(n, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width))
                for name, n in INPUTS.items()
            }
        )
        self.head = nn.Linear(2 * width, CLASSES)
        self.temperature = nn.Parameter(torch.tensor([0.2]))
        self.register_buffer("calls", torch.zeros(()))
        self.seen = torch.float32

    def forward(
        self, inputs: dict[str, Tensor], labels: Tensor, gather: Callable[[Tensor], Tensor], use_head: bool
    ) -> dict[str, Tensor]:
        self.calls += 1
        local = {name: encoder(inputs[name]) for name, encoder in self.encoders.items()}
        self.seen = local["a"].dtype
        z = {name: gather(x) for name, x in local.items()}
        logits_BB = F.normalize(z["a"], dim=-1) @ F.normalize(z["b"], dim=-1).T / self.temperature
        targets = torch.arange(len(logits_BB), device=logits_BB.device)
        loss = F.cross_entropy(logits_BB.float(), targets)
        if use_head:
            loss = loss + F.cross_entropy(self.logits(z).float(), gather(labels))
        return {"loss": loss}

    def logits(self, z: dict[str, Tensor]) -> Tensor:
        return self.head(torch.cat(list(z.values()), dim=-1))


def head_every_third(step: int) -> bool:
    """The hardest case for an engine: a parameter that has a gradient in some steps only."""
    return step % 3 == 1


@dataclass
class Trained:
    """What a run leaves behind."""

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)


def settings(**overrides: Any) -> config.Stage:
    """A stage: Adam with weight decay, a warm-up and a cosine, unless told otherwise."""
    optimizer = {"name": "adam", "lr": 1e-2, "weight_decay": 1e-2, **overrides.pop("optimizer", {})}
    schedule = {"name": "cosine", "warmup": 0.2}
    return config.Stage(
        **{"epochs": 1, "batch_size": "full", "optimizer": optimizer, "schedule": schedule, **overrides}
    )


def build(engine: config.Engine, world: World, stage: config.Stage, steps: int, seed: int = 0, **model: Any) -> Engine:
    torch.manual_seed(seed)
    return make_engine(Toy(**model), stage, steps, engine, world)


def take_steps(
    engine: Engine, steps: range, rows: int = 16, use_head: Callable[[int], bool] = head_every_third, scale: float = 1.0
) -> Trained:
    """Steps on batches that depend on nothing but the step's number; every rank takes its rows of them."""
    out = Trained()
    device, mine = engine.world.device, engine.world.rows(rows)
    for step in steps:
        generator = torch.Generator().manual_seed(1000 + step)
        inputs = {n: torch.randn(rows, d, generator=generator)[mine].to(device) for n, d in INPUTS.items()}
        labels = torch.randint(CLASSES, (rows,), generator=generator)[mine].to(device)
        loss = engine.forward(inputs, labels, engine.world.gather, use_head(step))["loss"] * scale
        out.losses.append(float(loss.detach()))
        out.norms.append(engine.step(loss))
    out.weights = engine.full_state()
    return out


def run(
    engine: config.Engine, world: World, stage: config.Stage, steps: int = 20, model: Any = None, **batches: Any
) -> Trained:
    """A whole run, from fresh weights to the last step."""
    made = build(engine, world, stage, steps, **(model or {}))
    out = take_steps(made, range(steps), **batches)
    made.close()
    return out


def largest_difference(a: Trained, b: Trained) -> tuple[float, float]:
    """(of losses, of weights), absolute."""
    if a.weights.keys() != b.weights.keys() or len(a.losses) != len(b.losses):
        raise ValueError("the runs are not of the same model and length")
    losses = max(abs(x - y) for x, y in zip(a.losses, b.losses, strict=True))
    weights = max(float((a.weights[k] - b.weights[k]).abs().max()) for k in a.weights)
    return losses, weights


def same_bits(a: Trained, b: Trained) -> bool:
    return a.losses == b.losses and all(torch.equal(a.weights[k], b.weights[k]) for k in a.weights)
