"""Optimizers and learning rates."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from mmcontrast import config
from mmcontrast.training.engine import learning_rate_factor, make_optimizer, parameter_groups, set_learning_rate


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
@pytest.mark.parametrize("fused", [True, False])
def test_settings_reach_the_optimizer(name, kind, fused):
    made = make_optimizer(
        [{"params": list(nn.Linear(2, 2).parameters())}],
        config.Optimizer(name=name, lr=0.3, weight_decay=0.04, fused=fused),
    )
    assert type(made) is kind
    assert (made.defaults["lr"], made.defaults["weight_decay"]) == (0.3, 0.04)
    assert bool(made.defaults["fused"]) is fused


def test_a_part_may_have_a_rate_of_its_own():
    module = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)))
    module[1].own_learning_rate, module[1][1].own_learning_rate = 0.5, None
    module[0].bias.requires_grad = False
    made = make_optimizer(parameter_groups(module, 0.1), config.Optimizer(lr=0.1, decay="matrices", weight_decay=0.2))
    set_learning_rate(made, 0.25)
    rates = {id(p): g["lr"] for g in made.param_groups for p in g["params"]}
    assert rates == {id(module[0].weight): 0.025} | {id(p): 0.125 for p in module[1].parameters()}
    apart = parameter_groups(module, 0.1, apart=True)
    assert [g["base_lr"] for g in apart] == [0.1] + [0.5] * 4
    trained = [p for p in module.parameters() if p.requires_grad]
    assert all(g["params"][0] is p for g, p in zip(apart, trained, strict=True))
    assert len(parameter_groups(nn.Linear(2, 2), 0.1)) == 1


def test_constant_is_one_throughout():
    factor = learning_rate_factor(config.Schedule(), 10)
    assert [factor(t) for t in range(10)] == [1.0] * 10


def test_warm_up_rises_to_one_and_stays():
    factor = learning_rate_factor(config.Schedule(warmup=0.4), 10)
    assert [factor(t) for t in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("warmup", [0.0, 0.1])
def test_cosine_falls_from_one_towards_zero(warmup):
    steps = 100
    factor = learning_rate_factor(config.Schedule(name="cosine", warmup=warmup), steps)
    warm = round(warmup * steps)
    tail = [factor(t) for t in range(warm, steps)]
    assert tail[0] == 1.0
    assert all(a > b > 0.0 for a, b in pairwise(tail))
    assert tail[len(tail) // 2] == pytest.approx(0.5)
    assert tail[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * (1 - 1 / len(tail)))))
    assert factor(steps) == pytest.approx(0.0, abs=1e-15)


def test_biases_and_norms_go_without_decay_where_it_is_for_matrices_alone():
    module = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), nn.Conv2d(1, 1, 2))
    settings = config.Optimizer(name="adamw", lr=0.1, weight_decay=0.5, decay="matrices")
    made = make_optimizer([{"params": list(module.parameters())}], settings)
    assert [g["weight_decay"] for g in made.param_groups] == [0.5, 0.0]
    decayed, kept = ({id(p) for p in g["params"]} for g in made.param_groups)
    assert decayed == {id(module[0].weight), id(module[2].weight)}
    assert decayed | kept == {id(p) for p in module.parameters()}
    for p in module.parameters():
        p.grad = torch.zeros_like(p)
    before = [p.detach().clone() for p in module.parameters()]
    made.step()
    for p, old in zip(module.parameters(), before, strict=True):
        torch.testing.assert_close(p.detach(), old * (0.95 if id(p) in decayed else 1.0))


def test_no_group_is_left_empty():
    settings = config.Optimizer(lr=0.1, weight_decay=0.5, decay="matrices")
    groups = [{"params": [p]} for p in nn.Linear(3, 2).parameters()]
    made = make_optimizer(groups, settings)
    assert [(len(g["params"]), g["weight_decay"]) for g in made.param_groups] == [(1, 0.5), (1, 0.0)]
