"""InfMasking: reference vectors, a slow reference, closed forms, what is masked, refusals."""

from __future__ import annotations

import math

import pytest
import torch

from mmcontrast.errors import ConfigError, ContrastError
from mmcontrast.losses.pairwise import nt_xent
from mmcontrast.methods.base import build_method
from mmcontrast.methods.comm.fusion import FusionTransformer
from mmcontrast.methods.comm.loss import comm_terms, directed_info_nce
from mmcontrast.methods.infmasking.loss import infinite_masking, infmasking_loss
from mmcontrast.methods.infmasking.method import kept_tokens
from tests.losses.further_vectors import rows, unit

TAU = 0.1
VIEWS = [[unit(0), unit(1), unit(2)], [unit(3), unit(4), unit(5)]]
DRAWS = [[unit(6), unit(7), unit(8)], [unit(9), unit(10), unit(11)]]


@pytest.mark.parametrize(
    ("strength", "masked", "loss"),
    [
        (0, [9.716068115320, 8.758979839293], 7.781247195721),
        (0.01, [9.716112368400, 8.759493893891], 7.781358857257),
        (0.5, [9.732980436638, 8.824399357093], 7.797713563545),
        (1, [9.997435612660, 10.233362100186], 8.132397147368),
    ],
)
def test_vectors(strength, masked, loss):
    for view, draws, value in zip(VIEWS, DRAWS, masked, strict=True):
        assert infinite_masking(view[-1], draws, TAU, strength).item() == pytest.approx(value, abs=1e-9)
    assert infmasking_loss(VIEWS, DRAWS, TAU, strength=strength).item() == pytest.approx(loss, abs=1e-9)


def test_vectors_of_weights_and_gradient():
    weighted = infmasking_loss(VIEWS, DRAWS, TAU, strength=0.5, weights=[1, 1, 1, 1, 5])
    assert weighted.item() == pytest.approx(12.009979817700, abs=1e-9)
    terms = comm_terms(*VIEWS, TAU).terms.tolist()
    assert terms == pytest.approx([7.047705366991, 8.118149839308, 5.265332817694], abs=1e-9)
    a = rows(0).requires_grad_()
    infmasking_loss([[a, *VIEWS[0][1:]], VIEWS[1]], DRAWS, TAU, strength=0.5).backward()
    assert a.grad[0, :2].tolist() == pytest.approx([-0.0328178212547, -0.0316483305282], abs=1e-9)
    assert nt_xent(unit(3), unit(0), 0.3).item() == pytest.approx(2.696324377200, abs=1e-9)


def slow(q, draws, tau, strength):
    """Row by row, nothing shared."""
    q, draws = q / q.norm(dim=1, keepdim=True), [k / k.norm(dim=1, keepdim=True) for k in draws]
    total = 0.0
    for i in range(len(q)):
        mu = sum(k[i] for k in draws) / len(draws)
        s = sum(float(q[i] @ (k[i] - mu)) ** 2 for k in draws) / len(draws)
        positive = math.exp(float(q[i] @ mu) / tau + strength * s / (2 * tau**2))
        others = [z for j in range(len(q)) if j != i for z in (q[j], *(k[j] for k in draws))]
        negatives = sum(math.exp(float(q[i] @ z) / tau) for z in others)
        total += math.log(positive + negatives) - float(q[i] @ mu) / tau
    return total / len(q)


@pytest.mark.parametrize(("n", "t"), [(2, 1), (5, 3), (9, 4)])
def test_slow_reference(n, t):
    g = torch.Generator().manual_seed(n)
    q, *draws = torch.randn(t + 1, n, 6, generator=g, dtype=torch.float64)
    assert infinite_masking(q, draws, 0.3, 0.7).item() == pytest.approx(slow(q, draws, 0.3, 0.7), abs=1e-10)


def test_one_draw_has_no_spread_and_is_info_nce_with_further_negatives():
    q, k = unit(0), unit(1)
    assert torch.equal(infinite_masking(q, [k], TAU, 5.0), infinite_masking(q, [k], TAU, 0.0))
    more = infinite_masking(q, [k], TAU, 0.0)
    assert more > directed_info_nce(q, k, TAU)
    # of candidates that are all alike: the positive, N - 1 draws of the others, N - 1 of q
    alike = torch.ones(6, 3, dtype=torch.float64)
    for t in (1, 3):
        expected = math.log(1 + (t + 1) * 5)
        assert infinite_masking(alike, [alike] * t, TAU, 2.0).item() == pytest.approx(expected, abs=1e-9)


def test_without_weight_of_masks_it_is_comm_over_another_divisor():
    found = infmasking_loss(VIEWS, DRAWS, TAU, weights=[0, 0, 1, 1, 1])
    assert found.item() == pytest.approx(comm_terms(*VIEWS, TAU).loss.item() * 3 / 5, abs=1e-12)


def test_gradients():
    z = [rows(m, 3, 4).requires_grad_() for m in range(8)]

    def loss(*z):
        return infmasking_loss([z[:3], z[3:6]], [z[6:7], z[7:8]], 0.5, strength=0.3)

    assert torch.autograd.gradcheck(loss, z)
    q, *draws = z[:4]
    assert torch.autograd.gradcheck(lambda *z: infinite_masking(z[0], z[1:], 0.5, 0.7), (q, *draws))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"draws": [[], DRAWS[1]]}, "needs at least one masked draw"),
        ({"weights": [1, 1, 1]}, "3 term weights for 5 terms"),
        ({"draws": [DRAWS[0], [unit(0, 3)]]}, "one shape"),
        ({"tau": 0.0}, "temperature"),
        ({"views": [VIEWS[0], VIEWS[1][:2]]}, "3 embeddings in one view and 2"),
    ],
)
def test_refusals(change, message):
    with pytest.raises(ContrastError, match=message):
        infmasking_loss(**({"views": VIEWS, "draws": DRAWS, "tau": TAU} | change))


@pytest.mark.parametrize(
    ("length", "ratio", "least", "kept"),
    [(10, 0.7, 1, 3), (10, 0.8, 1, 2), (1, 0.7, 1, 1), (1, 0.7, 0, 0), (4, 0.0, 1, 4), (4, 1.0, 1, 1), (7, 0.5, 1, 3)],
)
def test_how_many_tokens_are_kept(length, ratio, least, kept):
    order = torch.rand(2, 6, length, generator=torch.Generator().manual_seed(0))
    found = kept_tokens(order, None, ratio, least)
    assert found.sum(2).tolist() == [[kept] * 6] * 2
    assert (order.masked_fill(found, 2).amin(2) > order.masked_fill(~found, -1).amax(2)).all()
    # with as many padded ones after them, of which none counts or is kept
    padding = (torch.arange(2 * length) >= length).expand(6, -1)
    longer = torch.cat([order, torch.zeros_like(order)], dim=2)
    assert torch.equal(kept_tokens(longer, padding, ratio, least)[:, :, :length], found)


def test_masked_tokens_are_as_if_they_were_replaced():
    """Also where rows have padding: one pass over all draws against each draw by itself."""
    torch.manual_seed(0)
    fusion = FusionTransformer(8, 2).double()
    tokens = [torch.randn(5, t, 8, dtype=torch.float64) for t in (3, 4)]
    kept = [torch.rand(6, 5, t) < 0.5 for t in (3, 4)]
    mask = torch.randn(8, dtype=torch.float64, requires_grad=True)
    for padding in ([None, None], [None, torch.arange(4) >= torch.tensor([4, 3, 2, 1, 0])[:, None]]):
        found, slow = fusion.masked(tokens, kept, mask, padding), []
        for draw in zip(*kept, strict=True):
            replaced = [torch.where(k[..., None], x, mask) for x, k in zip(tokens, draw, strict=True)]
            slow += fusion(replaced, None, padding)
        torch.testing.assert_close(found, slow)
        given = [*fusion.parameters(), mask]
        gradients = [torch.autograd.grad(torch.stack(z).square().sum(), given) for z in (found, slow)]
        for mine, other in zip(*gradients, strict=True):
            torch.testing.assert_close(mine, other)


def test_rows_and_draws_are_masked_apart(make_cell, make_batch, make_progress):
    cell = make_cell("infmasking")
    tokens = [torch.zeros(12, 8, 32), torch.zeros(12, 8, 32)]
    kept = build_method(cell)._kept(tokens, [None, None], make_batch(cell), make_progress("pretrain"))
    assert all(k.shape == (5, 12, 8) and (k.sum(2) == 2).all() for k in kept)
    assert len({tuple(row.tolist()) for k in kept for row in k.flatten(0, 1)}) > 12


def test_strength_grows_with_the_epochs(make_cell, make_batch, make_progress):
    cell = make_cell("infmasking")
    batch, terms = make_batch(cell), []
    for epoch in (0, 9):
        torch.manual_seed(0)
        terms.append(build_method(cell)(batch, make_progress("pretrain", epoch)))
    assert terms[1]["loss"] > terms[0]["loss"]
    torch.manual_seed(0)
    still = build_method(make_cell("infmasking", strength=0.0))(batch, make_progress("pretrain", 9))["loss"]
    assert still < terms[0]["loss"]


def test_a_linear_fusion_has_no_tokens_to_mask(make_cell):
    cell = make_cell("infmasking")
    fusion = cell.model.fusion.model_copy(update={"kind": "linear"})
    cell = cell.model_copy(update={"model": cell.model.model_copy(update={"fusion": fusion})})
    with pytest.raises(ConfigError, match=r"linear fuses no tokens.*use transformer"):
        build_method(cell)
