"""Batch normalisation over ranks: two uneven ranks give the values, gradients and memory of one process."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mmcontrast.models.conv import GlobalBatchNorm2d
from tests.training.ranks import Ranks

SHARDS = (slice(0, 3), slice(3, 8))


def batch() -> torch.Tensor:
    return torch.randn(8, 3, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 + 1


def normalise(norm: nn.BatchNorm2d, x: torch.Tensor, goal: torch.Tensor) -> dict[str, np.ndarray]:
    """Output, gradients of a loss that is a sum over all rows, and running statistics."""
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
    x = x.clone().requires_grad_()
    out = norm(x)
    (out * goal).sum().backward()
    parts = {"out": out.detach(), "x": x.grad, "weight": norm.weight.grad, "bias": norm.bias.grad}
    parts |= {"mean": norm.running_mean, "var": norm.running_var, "count": norm.num_batches_tracked}
    return {k: v.numpy() for k, v in parts.items()}


def on_a_rank(world) -> dict[str, np.ndarray]:
    rows = SHARDS[world.rank]
    return normalise(GlobalBatchNorm2d(3).double(), batch()[rows], batch().sin()[rows])


@pytest.mark.slow
def test_two_ranks_are_one() -> None:
    pool = Ranks(2)
    try:
        first, second = pool.call(on_a_rank)
    finally:
        pool.close()
    one = normalise(nn.BatchNorm2d(3).double(), batch(), batch().sin())
    for key in ("out", "x"):
        np.testing.assert_allclose(np.concatenate([first[key], second[key]]), one[key], rtol=0, atol=1e-10)
    for key in ("weight", "bias"):
        np.testing.assert_allclose(first[key] + second[key], one[key], rtol=0, atol=1e-10)
    for key in ("mean", "var", "count"):
        for part in (first, second):
            np.testing.assert_allclose(part[key], one[key], rtol=0, atol=1e-10)


def test_one_rank_is_torchs_own() -> None:
    ours = normalise(GlobalBatchNorm2d(3).double(), batch(), batch().sin())
    theirs = normalise(nn.BatchNorm2d(3).double(), batch(), batch().sin())
    assert all(np.array_equal(ours[k], theirs[k]) for k in ours)
