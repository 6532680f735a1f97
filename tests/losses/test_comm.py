"""CoMM's loss: published-form vectors, the slow reference, gradients, closed forms, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mmcontrast.errors import ContrastError
from mmcontrast.losses.pairwise import nt_xent
from mmcontrast.methods.comm.fusion import modality_masks
from mmcontrast.methods.comm.loss import (
    _written_out,
    can_share,
    comm_paper_terms,
    comm_terms,
    directed_info_nce,
)
from tests.losses.reference_comm import terms as slow_terms
from tests.losses.reference_comm import toy

VECTORS = {
    2: {
        "terms": [7.2186468126, 7.5307015330, 7.9687664638],
        "mean": 7.5727049365,
        "sum": 22.7181148094,
        "fused_only": 2.6562554879,
        "directed": [6.8392809599, 6.8212662644, 7.2904503670],
        "directed_sum": 20.9509975913,
        "paper": [7.2066949735, 5.7399984691, 7.3642925740],
        "paper_sum": 20.3109860166,
    },
    3: {
        "terms": [9.9985775137, 9.6929308626, 7.2056275964, 3.8831845349],
        "mean": 7.6950801269,
        "sum": 30.7803205076,
        "fused_only": 0.9707961337,
        "directed": [10.9284339066, 9.7214479743, 7.2129406664, 3.8127589679],
        "directed_sum": 31.6755815151,
        "paper": [4.0350200700, 3.9635135164, 6.4786860701, 4.0127112290],
        "paper_sum": 18.4899308855,
    },
}


def emb(tag: int) -> torch.Tensor:
    return torch.from_numpy(toy(tag))


def views(n: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    return [emb(t) for t in range(n + 1)], [emb(t + 10) for t in range(n + 1)]


def random_views(n_terms: int, rows: int, width: int, dtype=torch.float64) -> tuple[list, list]:
    g = torch.Generator().manual_seed(7)
    z = [torch.randn(rows, width, generator=g, dtype=dtype).requires_grad_() for _ in range(2 * n_terms)]
    return z[:n_terms], z[n_terms:]


@pytest.mark.parametrize("n", [2, 3])
def test_released_form(n: int) -> None:
    want, (v1, v2) = VECTORS[n], views(n)
    loss, terms = comm_terms(v1, v2)
    assert terms.tolist() == pytest.approx(want["terms"], abs=1e-9)
    assert loss.item() == pytest.approx(want["mean"], abs=1e-9)
    assert comm_terms(v1, v2, reduction="sum")[0].item() == pytest.approx(want["sum"], abs=1e-9)
    fused_only = comm_terms(v1, v2, weights=[0.0] * n + [1.0])[0]
    assert fused_only.item() == pytest.approx(want["fused_only"], abs=1e-9)
    unimodal_only = comm_terms(v1, v2, weights=[1.0] * n + [0.0])[0]
    assert (fused_only + unimodal_only).item() == pytest.approx(want["mean"], abs=1e-9)


@pytest.mark.parametrize("n", [2, 3])
def test_directed_estimator(n: int) -> None:
    loss, terms = comm_terms(*views(n), reduction="sum", estimator="info_nce")
    assert terms.tolist() == pytest.approx(VECTORS[n]["directed"], abs=1e-9)
    assert loss.item() == pytest.approx(VECTORS[n]["directed_sum"], abs=1e-9)


@pytest.mark.parametrize("n", [2, 3])
def test_paper_form(n: int) -> None:
    v1, v2 = views(n)
    loss, terms = comm_paper_terms(v1[-1], v2[-1], [emb(t + 20) for t in range(n)])
    assert terms.tolist() == pytest.approx(VECTORS[n]["paper"], abs=1e-9)
    assert loss.item() == pytest.approx(VECTORS[n]["paper_sum"], abs=1e-9)
    weighted = comm_paper_terms(v1[-1], v2[-1], [emb(t + 20) for t in range(n)], weights=[0.0] * n + [2.0])[0]
    assert weighted.item() == pytest.approx(2 * VECTORS[n]["paper"][-1], abs=1e-9)


def test_paper_form_without_the_positive_below() -> None:
    v1, v2 = views(2)
    loss, _ = comm_paper_terms(v1[-1], v2[-1], [emb(20), emb(21)], positive_in_denominator=False)
    parts = [directed_info_nce(emb(20 + i), v[-1], 0.1, False) / 2 for i in (0, 1) for v in (v1, v2)]
    assert loss.item() == pytest.approx((directed_info_nce(v1[-1], v2[-1], 0.1, False) + sum(parts)).item(), abs=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "positive", "want"),
    [(0, 3, True, 11.1857917859), (3, 0, True, 7.1843892853), (0, 3, False, 10.6416027409)],
)
def test_directed_info_nce(first: int, second: int, positive: bool, want: float) -> None:
    assert directed_info_nce(emb(first), emb(second), 0.1, positive).item() == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize("n_terms", [3, 4, 6])
@pytest.mark.parametrize(("rows", "width"), [(2, 3), (5, 4), (33, 16)])
@pytest.mark.parametrize("tau", [0.05, 0.1, 1.0])
def test_shared_form_equals_direct_form(n_terms: int, rows: int, width: int, tau: float) -> None:
    weights = torch.linspace(0.3, 2.0, n_terms, dtype=torch.float64)
    v1, v2 = random_views(n_terms, rows, width)
    loss, terms = comm_terms(v1, v2, tau, weights=weights.tolist())
    grads = torch.autograd.grad(loss, [*v1, *v2])
    direct_terms = _written_out(v1, v2, tau)
    direct = (direct_terms * weights).mean()
    direct_grads = torch.autograd.grad(direct, [*v1, *v2])
    torch.testing.assert_close(terms, direct_terms.detach(), rtol=0, atol=1e-10)
    assert abs(loss.item() - direct.item()) < 1e-10
    for ours, theirs in zip(grads, direct_grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("n_terms", [3, 4])
def test_shared_form_equals_the_loops(n_terms: int) -> None:
    v1, v2 = random_views(n_terms, 6, 5)
    _, terms = comm_terms(v1, v2, 0.2)
    slow = slow_terms([z.detach().numpy() for z in v1], [z.detach().numpy() for z in v2], 0.2)
    np.testing.assert_allclose(terms.numpy(), slow, rtol=0, atol=1e-10)


def test_temperature_too_low_for_a_constant_shift() -> None:
    assert can_share(torch.float32, 0.1)
    assert not can_share(torch.float32, 0.02)
    v1, v2 = random_views(3, 8, 4, torch.float32)
    loss, terms = comm_terms(v1, v2, 0.01)
    exact = slow_terms([z.detach().double().numpy() for z in v1], [z.detach().double().numpy() for z in v2], 0.01)
    np.testing.assert_allclose(terms.numpy(), exact, rtol=1e-4)
    loss.backward()
    assert all(torch.isfinite(z.grad).all() for z in (*v1, *v2))


def test_gradcheck() -> None:
    v1, v2 = random_views(3, 4, 3)
    assert torch.autograd.gradcheck(lambda *z: comm_terms(z[:3], z[3:], 0.3, [0.5, 1.0, 2.0])[0], (*v1, *v2))


def test_gradient_by_finite_differences() -> None:
    v1, v2 = views(2)
    v1[-1].requires_grad_()
    loss, _ = comm_terms(v1, v2)
    (3 * loss).backward()
    assert (v1[-1].grad[0] / 3).tolist() == pytest.approx([-0.372323, -1.190996, -0.289306], abs=2e-6)


def test_terms_carry_no_gradient() -> None:
    v1, v2 = random_views(3, 4, 3)
    assert not comm_terms(v1, v2)[1].requires_grad
    with torch.no_grad():
        assert not comm_terms(v1, v2)[0].requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision(dtype: torch.dtype) -> None:
    v1, v2 = random_views(3, 16, 8)
    exact, _ = comm_terms(v1, v2)
    low1, low2 = [z.detach().to(dtype).requires_grad_() for z in v1], [z.detach().to(dtype) for z in v2]
    loss, _ = comm_terms(low1, low2)
    loss.backward()
    assert low1[0].grad.dtype == dtype
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5 if dtype == torch.float32 else 2e-2)


def test_autocast_does_not_reach_the_similarities() -> None:
    v1, v2 = random_views(3, 16, 8, torch.float32)
    plain = comm_terms(v1, v2)[0]
    with torch.autocast("cpu", torch.bfloat16):
        cast = comm_terms(v1, v2)[0]
    assert cast.item() == pytest.approx(plain.item(), rel=1e-6)


def test_collapse_is_ln_of_the_number_of_others() -> None:
    same = torch.ones(4, 3, dtype=torch.float64)
    loss, terms = comm_terms([same] * 3, [same] * 3)
    assert loss.item() == pytest.approx(math.log(7), abs=1e-12)
    assert terms.tolist() == pytest.approx([math.log(7)] * 3, abs=1e-12)


def test_order_of_the_batch_and_scale_do_not_matter() -> None:
    v1, v2 = random_views(4, 9, 5)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    loss = comm_terms(v1, v2)[0].item()
    assert comm_terms([z[order] for z in v1], [z[order] for z in v2])[0].item() == pytest.approx(loss, abs=1e-12)
    assert comm_terms([z * 3 for z in v1], [z * 0.2 for z in v2])[0].item() == pytest.approx(loss, abs=1e-12)


def test_masks() -> None:
    assert modality_masks(2) == [[True, False], [False, True], [True, True]]
    assert modality_masks(3)[-1] == [True, True, True]
    assert sum(map(sum, modality_masks(3))) == 6


def test_unit_vectors_of_the_toy() -> None:
    unit = torch.nn.functional.normalize(emb(0), dim=1)
    assert unit[0].tolist() == pytest.approx([0.69641254, 0.61715551, -0.36623578], abs=1e-8)
    assert unit[3].tolist() == pytest.approx([0.03779233, -0.86490339, -0.50051361], abs=1e-8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: comm_terms([emb(0), emb(1)], [emb(2), emb(3)]), "at least two are needed"),
        (lambda: comm_terms(views(2)[0], views(3)[1]), "3 embeddings in one view and 4"),
        (lambda: comm_terms(*views(2), weights=[1.0, 1.0]), "2 term weights for 3 terms"),
        (lambda: comm_terms([emb(0)[:1]] * 3, [emb(1)[:1]] * 3), "a batch of 1 leaves nothing to contrast with"),
        (lambda: comm_terms([emb(0), emb(0)[:2], emb(0)], [emb(1)] * 3), "of one shape"),
        (lambda: comm_terms(*views(2), tau=0.0), "temperature"),
        (lambda: comm_paper_terms(emb(0), emb(1), [emb(2)]), "at least two are needed"),
        (lambda: nt_xent(emb(0)[:1], emb(1)[:1]), "a batch of 1"),
    ],
)
def test_refusals(make, message: str) -> None:
    with pytest.raises(ContrastError, match=message):
        make()
