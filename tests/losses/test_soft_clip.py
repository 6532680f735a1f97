"""MultiSClip against loops in plain Python, vectors of values and gradients."""

from __future__ import annotations

import math

import pytest
import torch

from mmcontrast.methods.m3col.loss import multisclip_pair

A = torch.tensor([[1.0, 0.0, 0.5], [0.2, 1.0, -0.3], [-0.4, 0.6, 1.0], [0.9, -0.7, 0.1]], dtype=torch.float64)
B = torch.tensor([[0.8, 0.1, 0.4], [0.0, 0.9, 0.2], [-0.5, 0.3, 0.7], [0.6, -1.0, 0.0]], dtype=torch.float64)


def cosine(x: list[float], y: list[float]) -> float:
    return sum(p * q for p, q in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y)


def softmax(scores: list[float]) -> list[float]:
    total = sum(math.exp(s) for s in scores)
    return [math.exp(s) / total for s in scores]


def slow_multisclip(a: list[list[float]], b: list[list[float]], tau: float) -> float:
    loss = 0.0
    for i in range(len(a)):
        q = softmax([cosine(b[i], y) / tau for y in b])
        a_looks_up_b = softmax([cosine(a[i], y) / tau for y in b])
        b_looks_up_a = softmax([cosine(x, b[i]) / tau for x in a])
        loss -= sum(w * math.log(p) for w, p in zip(q, a_looks_up_b, strict=True))
        loss -= sum(w * math.log(p) for w, p in zip(q, b_looks_up_a, strict=True))
    return loss / (2 * len(a))


@pytest.mark.parametrize("n", [2, 3, 9])
@pytest.mark.parametrize("d", [1, 2, 7])
@pytest.mark.parametrize("tau", [0.05, 0.125, 1.0])
def test_equals_the_loop(n, d, tau):
    a, b = torch.randn(2, n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(n + d))
    expected = slow_multisclip(a.tolist(), b.tolist(), tau)
    assert multisclip_pair(a, b, tau).item() == pytest.approx(expected, abs=1e-8)
    assert multisclip_pair(a, b, tau, detach_targets=True).item() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(("first", "second", "expected"), [(A, B, 0.1160173002), (B, A, 0.2476070272)])
def test_vectors(first, second, expected):
    assert multisclip_pair(first, second, 0.125).item() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(("detach", "expected"), [(False, 0.0395109673), (True, 0.0342309560)])
def test_gradient_flows_through_the_targets_unless_detached(detach, expected):
    b = B.clone().requires_grad_()
    multisclip_pair(A, b, 0.125, detach_targets=detach).backward()
    assert b.grad[0, 0].item() == pytest.approx(expected, abs=1e-8)


def test_equal_modalities_reach_the_entropy_of_the_targets():
    """With a = b predictions are the targets, and cross-entropy is entropy: no pair can do better for these targets."""
    logits = torch.nn.functional.normalize(B, dim=-1) @ torch.nn.functional.normalize(B, dim=-1).T / 0.125
    entropy = -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1).mean()
    assert multisclip_pair(B, B, 0.125).item() == pytest.approx(entropy.item(), abs=1e-12)
    assert multisclip_pair(A, B, 0.125) > entropy
