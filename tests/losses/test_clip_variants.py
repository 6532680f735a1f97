"""CyCLIP's terms and CLOOB's loss: slow references, closed forms, gradients; where `clip` takes them."""

from __future__ import annotations

import math

import pytest
import torch

from mmcontrast.errors import ContrastError
from mmcontrast.losses.pairwise import cloob, cyclic_consistency
from mmcontrast.methods.baselines.objectives import InstanceContrastObjective


def pair(n=5, d=3):
    z = torch.randn(2, n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (z / z.norm(dim=2, keepdim=True)).unbind()


def slow_cyclic(a, b, within, across):
    n, total = len(a), 0.0
    for i in range(n):
        for j in range(n):
            total += within * float(a[i] @ a[j] - b[i] @ b[j]) ** 2 / n
            total += across * float(a[i] @ b[j] - b[i] @ a[j]) ** 2 / n
    return total


def slow_cloob(a, b, tau, beta):
    def retrieved(x, store):
        weights = [math.exp(beta * float(x @ s)) for s in store]
        mean = sum(w * s for w, s in zip(weights, store, strict=True))
        return mean / mean.norm()

    total, n = 0.0, len(a)
    for own, other in ((a, b), (b, a)):
        x, y = [retrieved(z, own) for z in own], [retrieved(z, own) for z in other]
        for i in range(n):
            negatives = sum(math.exp(float(x[i] @ y[j]) / tau) for j in range(n) if j != i)
            total += tau * (math.log(negatives) - float(x[i] @ y[i]) / tau) / n
    return total


def test_slow_references():
    a, b = pair()
    assert cyclic_consistency(a, b, 0.3, 0.7).item() == pytest.approx(slow_cyclic(a, b, 0.3, 0.7), abs=1e-10)
    assert cloob(a, b, 0.2, 4.0).item() == pytest.approx(slow_cloob(a, b, 0.2, 4.0), abs=1e-10)
    scale = torch.linspace(0.1, 9, 5, dtype=torch.float64)[:, None]
    torch.testing.assert_close(cyclic_consistency(scale * a, b / scale), cyclic_consistency(a, b))
    torch.testing.assert_close(cloob(scale * a, b / scale), cloob(a, b))


def test_closed_forms():
    a, b = pair()
    assert cyclic_consistency(a, a).item() == 0
    # a rotation changes no angle within a modality
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    assert cyclic_consistency(a, a @ turn, 1.0, 0.0).item() == pytest.approx(0, abs=1e-12)
    assert cyclic_consistency(a, b, 0.0, 1.0).item() > 0
    alike = torch.ones(5, 3, dtype=torch.float64)
    assert cloob(alike, alike, 0.2).item() == pytest.approx(2 * 0.2 * math.log(4), abs=1e-12)


def test_gradients():
    z = [x.requires_grad_() for x in pair(4, 3)]
    assert torch.autograd.gradcheck(lambda a, b: cyclic_consistency(a, b, 0.3, 0.7), z)
    assert torch.autograd.gradcheck(lambda a, b: cloob(a, b, 0.5, 2.0), z)


@pytest.mark.parametrize("loss", [cyclic_consistency, cloob])
def test_refusals(loss):
    with pytest.raises(ContrastError, match="one shape"):
        loss(torch.ones(3, 2), torch.ones(4, 2))


@pytest.mark.parametrize("key", ["cyclic_within", "cyclic_across", "hopfield"])
def test_they_are_of_clip(key):
    with pytest.raises(ValueError, match=f"{key}: of loss clip alone, and the loss is siglip"):
        InstanceContrastObjective(loss="siglip", **{key: 1.0})
    assert getattr(InstanceContrastObjective(loss="clip", **{key: 1.0}), key) == 1.0
