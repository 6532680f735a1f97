"""InfoNCE against loops in plain Python and a vector."""

from __future__ import annotations

import math

import pytest
import torch

from mmcontrast.losses.pairwise import info_nce

A = torch.tensor([[1.0, 0.0, 0.5], [0.2, 1.0, -0.3], [-0.4, 0.6, 1.0], [0.9, -0.7, 0.1]], dtype=torch.float64)
B = torch.tensor([[0.8, 0.1, 0.4], [0.0, 0.9, 0.2], [-0.5, 0.3, 0.7], [0.6, -1.0, 0.0]], dtype=torch.float64)


def cosine(x: list[float], y: list[float]) -> float:
    return sum(p * q for p, q in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y)


def slow_info_nce(a: list[list[float]], b: list[list[float]], tau: float) -> float:
    n, loss = len(a), 0.0
    for i in range(n):
        own = math.exp(cosine(a[i], b[i]) / tau)
        loss -= math.log(own / sum(math.exp(cosine(a[i], b[j]) / tau) for j in range(n)))
        loss -= math.log(own / sum(math.exp(cosine(a[j], b[i]) / tau) for j in range(n)))
    return loss / (2 * n)


@pytest.mark.parametrize("n", [2, 3, 9])
@pytest.mark.parametrize("d", [1, 2, 7])
@pytest.mark.parametrize("tau", [0.05, 0.1, 1.0])
def test_equals_the_loop(n, d, tau):
    a, b = torch.randn(2, n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(n * d))
    assert info_nce(a, b, tau).item() == pytest.approx(slow_info_nce(a.tolist(), b.tolist(), tau), abs=1e-8)


def test_vector():
    assert info_nce(A, B, 0.1).item() == pytest.approx(0.0363235622, abs=1e-8)


def test_is_symmetric():
    assert info_nce(A, B, 0.1).item() == pytest.approx(info_nce(B, A, 0.1).item(), abs=1e-14)
