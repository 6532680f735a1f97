"""NT-Xent, CMC, Cross+Self, SupCon and FactorCL's bounds: vectors, closed forms, refusals."""

from __future__ import annotations

import math

import pytest
import torch

from mmcontrast.errors import ContrastError
from mmcontrast.losses.disentangled import (
    LOWER_TERMS,
    UPPER_TERMS,
    club_bound,
    club_critic_loss,
    factorcl_terms,
    info_nce_bound,
)
from mmcontrast.losses.pairwise import cmc, nt_xent, self_contrast
from mmcontrast.losses.supervised import supcon
from tests.losses.reference_comm import nt_xent as slow_nt_xent
from tests.losses.reference_comm import toy


def emb(tag: int) -> torch.Tensor:
    return torch.from_numpy(toy(tag))


@pytest.mark.parametrize(
    ("tau", "want"), [(0.05, 21.3235765943), (0.1, 10.9237952068), (0.5, 3.1644666853), (1.0, 2.4455634500)]
)
def test_nt_xent_vectors(tau: float, want: float) -> None:
    assert nt_xent(emb(0), emb(3), tau).item() == pytest.approx(want, abs=1e-9)


def test_nt_xent_of_a_view_with_itself() -> None:
    assert nt_xent(emb(0), emb(0), 0.1).item() == pytest.approx(0.3651375525, abs=1e-9)


@pytest.mark.parametrize(("n", "d"), [(2, 2), (5, 3), (17, 8)])
@pytest.mark.parametrize("tau", [0.07, 0.5])
def test_nt_xent_equals_the_loops(n: int, d: int, tau: float) -> None:
    a, b = toy(1, n, d), toy(4, n, d)
    ours = nt_xent(torch.from_numpy(a), torch.from_numpy(b), tau)
    assert ours.item() == pytest.approx(slow_nt_xent(a, b, tau), abs=1e-10)


@pytest.mark.parametrize("n", [2, 4, 9])
def test_nt_xent_collapsed(n: int) -> None:
    same = torch.ones(n, 3, dtype=torch.float64)
    assert nt_xent(same, same, 0.1).item() == pytest.approx(math.log(2 * n - 1), abs=1e-12)


def test_nt_xent_gradcheck() -> None:
    a, b = emb(0).requires_grad_(), emb(3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: nt_xent(x, y, 0.4), (a, b))


def test_cmc_and_self_contrast_vectors() -> None:
    assert cmc([emb(0), emb(1), emb(2)]).item() == pytest.approx(4.6638553534, abs=1e-9)
    # views (2, 3) are of the first modality, (4, 5) of the second
    loss = cmc([emb(0), emb(1)]) + self_contrast([emb(2), emb(4)], [emb(3), emb(5)])
    assert loss.item() == pytest.approx(5.6919237554, abs=1e-9)


def test_supcon_vector() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    assert supcon([emb(0), emb(3)], labels).item() == pytest.approx(10.7523155431, abs=1e-9)


def test_supcon_with_all_labels_apart_is_nt_xent() -> None:
    labels = torch.arange(4)
    assert supcon([emb(0), emb(3)], labels, 0.2).item() == pytest.approx(nt_xent(emb(0), emb(3), 0.2).item(), abs=1e-12)


def test_supcon_gradcheck() -> None:
    a, b = emb(0).requires_grad_(), emb(3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: supcon([x, y], torch.tensor([0, 1, 1, 2]), 0.4), (a, b))


@pytest.mark.parametrize("loss", [nt_xent, lambda a, b: supcon([a, b], torch.tensor([0, 0, 1, 1]))])
def test_half_precision_and_autocast_are_computed_in_float32(loss) -> None:
    a, b = emb(0).bfloat16(), emb(3).bfloat16()
    exact = loss(a.float(), b.float())
    assert torch.equal(loss(a, b), exact)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(a.float(), b.float()), exact)


def test_factorcl_bounds() -> None:
    scores = emb(0) @ emb(3).T
    assert -info_nce_bound(scores).item() == pytest.approx(0.5503618065, abs=1e-9)
    assert club_bound(scores).item() == pytest.approx(-0.4291401655, abs=1e-9)


def test_info_nce_bound_is_at_most_ln_n() -> None:
    perfect = 1e3 * torch.eye(5, dtype=torch.float64)
    assert info_nce_bound(perfect).item() == pytest.approx(math.log(5), abs=1e-9)
    assert info_nce_bound(torch.ones(5, 5)).item() == pytest.approx(0, abs=1e-6)


def test_factorcl_objective_signs() -> None:
    scores = {name: emb(i) @ emb(i + 3).T for i, name in enumerate((*LOWER_TERMS, *UPPER_TERMS))}
    out = factorcl_terms(scores)
    by_hand = sum(-info_nce_bound(scores[t]) for t in LOWER_TERMS) + sum(club_bound(scores[t]) for t in UPPER_TERMS)
    assert out["loss"].item() == pytest.approx(by_hand.item(), abs=1e-12)
    critics = club_critic_loss(scores)
    assert critics.item() == pytest.approx(-sum(info_nce_bound(scores[t]) for t in UPPER_TERMS).item(), abs=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cmc([emb(0)]), "at least two"),
        (lambda: self_contrast([emb(0)], []), "1 modalities in one view and 0"),
        (lambda: supcon([emb(0)], torch.zeros(4)), "at least two views"),
        (lambda: supcon([emb(0), emb(1)], torch.zeros(3)), r"labels of shape \(3,\)"),
        (lambda: info_nce_bound(torch.ones(3, 4)), "square"),
        (lambda: factorcl_terms({"cross": torch.ones(2, 2)}), "no scores for self1, self2"),
        (lambda: nt_xent(emb(0), emb(0)[:3]), "one shape"),
        (lambda: nt_xent(emb(0), emb(1), 0.0), "temperature"),
        (lambda: supcon([emb(0), emb(1)], torch.zeros(4), 0.0), "temperature"),
    ],
)
def test_refusals(make, message: str) -> None:
    with pytest.raises(ContrastError, match=message):
        make()
