"""DeCUR: reference vectors, a slow reference, closed forms, what the two blocks are drawn to, refusals."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from mmcontrast.errors import ConfigError, ContrastError
from mmcontrast.losses.disentangled import barlow_twins, decur_loss
from mmcontrast.methods.base import build_method
from tests.losses.further_vectors import rows

A = [rows(m, 6, 4) for m in range(4)]


def test_vectors():
    assert decur_loss([A[0], A[2]], [A[1], A[3]], 3).item() == pytest.approx(5.057055810222, abs=1e-9)
    assert barlow_twins(A[0], A[1]).item() == pytest.approx(7.601021308678, abs=1e-9)
    assert barlow_twins(A[2], A[3]).item() == pytest.approx(3.829816398283, abs=1e-9)
    assert barlow_twins(A[0][:, :3], A[2][:, :3]).item() == pytest.approx(7.432415131054, abs=1e-9)
    assert barlow_twins(A[0][:, 3:], A[2][:, 3:], 0.0).item() == pytest.approx(0.048244316360, abs=1e-9)


def slow(a, b, target, off):
    """Every correlation by itself."""
    n, d = a.shape

    def standard(z):
        mean = [sum(float(x) for x in z[:, k]) / n for k in range(d)]
        spread = [(sum((float(x) - mean[k]) ** 2 for x in z[:, k]) / n + 1e-5) ** 0.5 for k in range(d)]
        return [[(float(z[i, k]) - mean[k]) / spread[k] for k in range(d)] for i in range(n)]

    x, y, total = standard(a), standard(b), 0.0
    for p in range(d):
        for q in range(d):
            c = sum(x[i][p] * y[i][q] for i in range(n)) / n
            total += (c - target) ** 2 if p == q else off * c * c
    return total


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_slow_reference(target):
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 9, 5, generator=g, dtype=torch.float64)
    assert barlow_twins(a, b, target, 0.3).item() == pytest.approx(slow(a, b, target, 0.3), abs=1e-10)


def test_three_modalities_have_a_term_for_every_pair():
    g = torch.Generator().manual_seed(0)
    one, two = torch.randn(2, 3, 9, 5, generator=g, dtype=torch.float64)
    expected = sum(slow(a, b, 1.0, 0.1) for a, b in zip(one, two, strict=True))
    for a, b in combinations(one, 2):
        expected += (slow(a[:, :2], b[:, :2], 1.0, 0.1) + slow(a[:, 2:], b[:, 2:], 0.0, 0.1)) / 2
    assert decur_loss(list(one), list(two), 2, 0.1).item() == pytest.approx(expected / 6, abs=1e-10)


def test_closed_forms():
    """Dimensions that are uncorrelated over the rows: all that is left is the diagonal's distance to its target."""
    z = torch.linalg.qr(torch.randn(8, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    z = 100 * torch.linalg.qr(z - z.mean(0))[0]
    # eps of 1e-5 beside a variance of 1e4 / 8
    assert barlow_twins(z, z).item() == pytest.approx(0, abs=1e-9)
    assert barlow_twins(z, z, target=0.0).item() == pytest.approx(4, abs=1e-6)
    assert barlow_twins(z, -z).item() == pytest.approx(4 * 4, abs=1e-6)
    torch.testing.assert_close(barlow_twins(3 * z + 1, z, 0.5), barlow_twins(z, z, 0.5), rtol=1e-7, atol=1e-7)


def test_gradients():
    z = [x.clone().requires_grad_() for x in A]
    assert torch.autograd.gradcheck(lambda *z: decur_loss(z[:2], z[2:], 3, 0.2), z)


@pytest.mark.parametrize(
    ("one", "two", "message"),
    [(A[:1], A[:1], "at least two, and got 1"), (A[:2], [A[2], rows(3, 5, 4)], "one shape")],
)
def test_refusals(one, two, message):
    with pytest.raises(ContrastError, match=message):
        decur_loss(one, two, 2)


def test_blocks_are_scored_apart(make_cell, make_batch):
    cell = make_cell("decur")
    method = build_method(cell).eval()
    batch = make_batch(cell)
    views = method.embeddings(batch)
    assert method.common == 18
    z = [method.heads[m](method.encoders[m](batch.inputs[m])) for m in method.modalities]
    torch.testing.assert_close(views["common"], torch.cat([x[:, :18] for x in z], 1))
    torch.testing.assert_close(views["unique"], torch.cat([x[:, 18:] for x in z], 1))
    assert views[""].shape == (12, 3 * cell.model.width)


def correlations(method, batch):
    """Mean over pairs and dimensions of a block, of the diagonal of C: common, unique."""
    found = {"common": [], "unique": []}
    for a, b in combinations(method.project(batch.inputs, lambda x: x), 2):
        c = torch.corrcoef(torch.cat([a, b], 1).T)[: a.shape[1], a.shape[1] :].diagonal()
        found["common"].append(c[: method.common].mean())
        found["unique"].append(c[method.common :].abs().mean())
    return {name: torch.stack(values).mean().item() for name, values in found.items()}


def test_training_makes_common_dimensions_alike_and_others_not(make_cell, make_batch, make_progress):
    torch.manual_seed(0)
    method, batch = build_method(make_cell("decur")), make_batch(make_cell("decur"), 24)
    optimizer = torch.optim.Adam(method.parameters(), lr=5e-3)
    for step in range(80):
        optimizer.zero_grad()
        method(batch, make_progress("pretrain", seed=step))["loss"].backward()
        optimizer.step()
    found = correlations(method, batch)
    assert found["common"] > 0.8
    assert found["unique"] < 0.3


def test_one_projector(make_cell, make_batch, make_progress):
    cell = make_cell("decur", "one_projector")
    method = build_method(cell)
    assert len(method.heads) == 1
    assert all(method.head_of(m) is method.heads[method.modalities[0]] for m in method.modalities)
    assert method(make_batch(cell), make_progress("pretrain"))["loss"].isfinite()


def test_a_block_without_dimensions_is_refused(make_cell):
    with pytest.raises(ConfigError, match=r"objective.common: 0.99 of 24 dimensions leaves a block without any; give"):
        build_method(make_cell("decur", common=0.99))
