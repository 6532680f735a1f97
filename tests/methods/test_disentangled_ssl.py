"""DisentangledSSL: reference vectors, slow references, closed forms, and that the first step's weights stay."""

from __future__ import annotations

import math

import pytest
import torch

from mmcontrast.errors import ContrastError
from mmcontrast.losses.disentangled import (
    disentangled_shared_loss,
    disentangled_specific_loss,
    orthogonality,
)
from mmcontrast.methods.base import build_method
from tests.losses.further_vectors import rows, unit

SHARED = [[rows(0), rows(1)], [rows(2), rows(3)]]
SPECIFIC = [[rows(4), rows(5)], [rows(6), rows(7)]]


def test_vectors():
    assert orthogonality(rows(0), rows(1)).item() == pytest.approx(2.105870925092, abs=1e-9)
    assert disentangled_shared_loss([unit(0), unit(1)], 0.07, 0.5).item() == pytest.approx(7.469707397051, abs=1e-9)
    both = disentangled_specific_loss(SHARED, SPECIFIC, 0.07, 0.1)
    assert both.item() == pytest.approx(24.793140806377, abs=1e-9)
    contrast = disentangled_specific_loss(SHARED, SPECIFIC, 0.07, 0.0)
    assert contrast.item() == pytest.approx(24.445464487416, abs=1e-9)
    assert (both - contrast).item() / 0.1 == pytest.approx(3.476763189617, abs=1e-8)


def slow_clip(a, b, tau):
    a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    total = 0.0
    for i in range(len(a)):
        for x, y in ((a, b), (b, a)):
            scores = [float(x[i] @ y[j]) / tau for j in range(len(a))]
            total += (math.log(sum(map(math.exp, scores))) - scores[i]) / (2 * len(a))
    return total


def slow_orthogonality(a, b):
    a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    cells = [
        sum(float(a[i, p] * b[i, q]) for i in range(len(a))) ** 2 for p in range(a.shape[1]) for q in range(b.shape[1])
    ]
    return sum(cells) ** 0.5


def test_slow_references_of_three_modalities():
    g = torch.Generator().manual_seed(0)
    e, s = torch.randn(2, 2, 3, 5, 4, generator=g, dtype=torch.float64)
    expected = 0.0
    for a, b in ((0, 1), (0, 2), (1, 2)):
        cosine = torch.cosine_similarity(e[0][a], e[0][b]).mean().item()
        expected += (slow_clip(e[0][a], e[0][b], 0.3) - 0.4 * cosine) / 3
    assert disentangled_shared_loss(list(e[0]), 0.3, 0.4).item() == pytest.approx(expected, abs=1e-10)
    expected = 0.0
    for m in range(3):
        others = [o for o in range(3) if o != m]
        joint = [torch.cat([s[v][m], *(e[v][o] for o in others)], 1) for v in range(2)]
        expected += slow_clip(*joint, 0.3) + 0.2 * sum(slow_orthogonality(s[v][m], e[v][m]) for v in range(2)) / 2
    found = disentangled_specific_loss([list(x) for x in e], [list(x) for x in s], 0.3, 0.2)
    assert found.item() == pytest.approx(expected, abs=1e-10)


def test_closed_forms():
    alike = torch.ones(5, 3, dtype=torch.float64)
    assert disentangled_shared_loss([alike, alike], 0.3, 0.4).item() == pytest.approx(math.log(5) - 0.4, abs=1e-12)
    assert orthogonality(alike, alike).item() == pytest.approx(5, abs=1e-12)
    left, right = (torch.zeros(4, 4, dtype=torch.float64) for _ in range(2))
    left[:, 0] = right[:2, 1] = 1
    right[2:, 1] = -1
    assert orthogonality(left, right).item() == 0  # uncorrelated over the rows


def test_gradients():
    z = [rows(m, 3, 4).requires_grad_() for m in range(8)]

    def loss(*z):
        return disentangled_specific_loss([z[:2], z[2:4]], [z[4:6], z[6:]], 0.5, 0.3)

    assert torch.autograd.gradcheck(loss, z)
    assert torch.autograd.gradcheck(lambda *z: disentangled_shared_loss(z, 0.5, 0.3), z[:3])


def test_refusals():
    with pytest.raises(ContrastError, match="at least two, and got 1"):
        disentangled_shared_loss([rows(0)])
    with pytest.raises(ContrastError, match="one shape"):
        disentangled_specific_loss([SHARED[0], [rows(2, 3), rows(3, 3)]], [SPECIFIC[0], [rows(6, 3), rows(7, 3)]])
    with pytest.raises(ContrastError, match="one shape"):
        disentangled_shared_loss([unit(0), unit(1, 3)])


def test_the_second_step_keeps_what_the_first_has_learned(make_image_cell, make_image_batch, make_progress):
    """On pictures, whose encoders have batch statistics: nothing of the shared part moves, the specific part does."""
    cell = make_image_cell("disentangled_ssl")
    torch.manual_seed(0)
    method, batch = build_method(cell), make_image_batch(cell)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-2, weight_decay=0.1)
    for epoch in (6, 7, 9):  # 0.625 of 10: the first step has epochs 0 to 6
        method.zero_grad()
        method(batch, make_progress("pretrain", epoch))["loss"].backward()
        optimizer.step()
        moved = {n.split(".")[0] for n, v in method.state_dict().items() if not torch.equal(v, before[n])}
        assert moved == ({"encoders"} if epoch == 6 else {"specific_encoders", "beside"})
        before = {name: value.clone() for name, value in method.state_dict().items()}


def test_the_steps(make_cell, make_batch, make_progress):
    cell = make_cell("disentangled_ssl", n_modalities=2)
    cell = cell.model_copy(update={"objective": cell.objective | {"augmentations": {"vector": []}}})
    method, batch = build_method(cell).eval(), make_batch(cell)
    views = method.embeddings(batch)
    e, s = (list(views[part].chunk(2, dim=1)) for part in ("encoders", "specific"))
    assert torch.equal(views[""], torch.cat([*e, *s], dim=1))
    first = method(batch, make_progress("pretrain", 0))["loss"]
    torch.testing.assert_close(first, disentangled_shared_loss(e, 0.07, 0.5))
    second = method(batch, make_progress("pretrain", 9))["loss"]
    torch.testing.assert_close(second, disentangled_specific_loss([e, e], [s, s], 0.07, 0.1))
