"""What every contrastive loss between two modalities owes: precision, invariances, closed form, errors, gradients."""

from __future__ import annotations

import math

import pytest
import torch

from mmcontrast.errors import ContrastError, MMContrastError
from mmcontrast.losses.pairwise import info_nce
from mmcontrast.methods.m3col.loss import multisclip_pair

LOSSES = [info_nce, multisclip_pair]


def embeddings(n: int = 6, d: int = 4, seed: int = 0, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, n, d, dtype=dtype, generator=generator).unbind()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("n", [2, 3, 17])
@pytest.mark.parametrize("tau", [0.05, 1.0])
def test_embeddings_all_alike_give_log_of_the_batch(loss, n, tau):
    row = torch.tensor([0.3, -2.0, 1.0], dtype=torch.float64).expand(n, 3)
    assert loss(row, row, tau).item() == pytest.approx(math.log(n), abs=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_positive_scaling_of_rows_changes_nothing(loss):
    a, b = embeddings()
    scale = torch.linspace(0.1, 30, 6, dtype=torch.float64)[:, None]
    torch.testing.assert_close(loss(scale * a, b / scale, 0.1), loss(a, b, 0.1))


@pytest.mark.parametrize("loss", LOSSES)
def test_the_order_of_the_batch_changes_nothing(loss):
    a, b = embeddings()
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    torch.testing.assert_close(loss(a[order], b[order], 0.1), loss(a, b, 0.1))
    assert loss(a[order], b, 0.1).item() != pytest.approx(loss(a, b, 0.1).item())


@pytest.mark.parametrize("loss", LOSSES)
def test_inputs_are_not_modified(loss):
    a, b = embeddings()
    copies = a.clone(), b.clone()
    loss(a, b, 0.1)
    assert torch.equal(a, copies[0])
    assert torch.equal(b, copies[1])


@pytest.mark.parametrize("loss", LOSSES)
def test_half_precision_is_computed_in_float32(loss):
    a, b = (x.bfloat16().requires_grad_() for x in embeddings())
    value = loss(a, b, 0.1)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(a.float(), b.float(), 0.1))
    value.backward()
    assert a.grad is not None
    assert a.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("loss", LOSSES)
def test_autocast_does_not_reach_inside(loss):
    a, b = embeddings(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(a, b, tau=0.1)
    assert torch.equal(inside, loss(a, b, tau=0.1))


@pytest.mark.parametrize("loss", LOSSES)
def test_float64_stays_float64(loss):
    a, b = embeddings()
    assert loss(a, b, 0.1).dtype == torch.float64


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("a", "b", "tau", "what"),
    [
        ((4, 3), (5, 3), 0.1, "one shape"),
        ((4, 3), (4, 2), 0.1, "one shape"),
        ((4,), (4,), 0.1, "one shape"),
        ((1, 3), (1, 3), 0.1, "nothing to contrast with"),
        ((4, 3), (4, 3), 0.0, "temperature"),
        ((4, 3), (4, 3), -1.0, "temperature"),
        ((4, 3), (4, 3), math.nan, "temperature"),
    ],
)
def test_what_cannot_be_contrasted_is_refused(loss, a, b, tau, what):
    with pytest.raises(ContrastError, match=what) as caught:
        loss(torch.ones(a), torch.ones(b), tau)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, MMContrastError)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_zero_row_gives_finite_loss_and_gradient(loss):
    a, b = embeddings()
    a[2] = 0
    a.requires_grad_()
    value = loss(a, b, 0.1)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(a.grad).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients(loss):
    a, b = (x.requires_grad_() for x in embeddings(4, 3))
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, 0.5), (a, b))
