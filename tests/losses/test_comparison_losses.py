"""MIL-NCE, TriCoLo's NT-Xent and SigLIP against printed vectors, slow references and closed forms.

SupCon stands here as a slow reference alone: it holds the vectors that the multifold loss is compared on.
"""

import math

import pytest
import torch

from mmcontrast.errors import ContrastError
from mmcontrast.losses.pairwise import mil_nce, siglip, weighted_nt_xent
from mmcontrast.methods.mxm_clr.loss import multifold_terms
from tests.losses.multifold_vectors import IDS_A, IDS_B, TEN, A, B


def slow_supcon(z, ids, tau, own_modality):
    """Mean over anchors of the mean over positives of -log p; own_modality(i, j) says which j an anchor i may see."""
    total = 0.0
    for i in range(len(z)):
        seen = [j for j in range(len(z)) if j != i and own_modality(i, j)]
        log_z = torch.logsumexp(torch.stack([z[i] @ z[j] / tau for j in seen]), 0)
        total += sum(log_z - z[i] @ z[j] / tau for j in seen if ids[j] == ids[i]) / sum(ids[j] == ids[i] for j in seen)
    return float(total / len(z))


def test_supcon_reference_on_the_vectors_and_hard_as_its_cross_modal_part():
    z, ids = torch.cat([A, B]), torch.cat([IDS_A, IDS_B])
    assert slow_supcon(z, ids, 0.1, lambda i, j: True) == pytest.approx(2.5516534074, **TEN)
    hard = multifold_terms(A, B, IDS_A, IDS_B, tau=0.1, soft_weight=0.0)
    cross_only = slow_supcon(z, ids, 0.1, lambda i, j: (i < 4) != (j < 4))
    assert float(4 * hard["hard_ab"] + 6 * hard["hard_ba"]) / 10 == pytest.approx(cross_only, abs=1e-12)


@pytest.mark.parametrize(
    ("tau", "double_count", "want"),
    [(1.0, True, 1.1317189684), (1.0, False, 0.7423814852), (0.1, True, 0.7000236427), (0.1, False, 0.0137017002)],
)
def test_mil_nce_on_the_vectors(tau, double_count, want):
    got = mil_nce(A[[0, 2]], B, torch.tensor([0, 1]), IDS_B, tau=tau, double_count=double_count)
    assert float(got) == pytest.approx(want, **TEN)


@pytest.mark.parametrize("double_count", [True, False])
def test_mil_nce_against_a_slow_reference_with_several_rows_on_both_sides(double_count):
    total = 0.0
    for i in (0, 1):
        pairs = [(p, q) for p in range(4) for q in range(6)]
        e = {(p, q): math.exp(float(A[p] @ B[q]) / 0.5) for p, q in pairs}
        own = sum(e[p, q] for p, q in pairs if IDS_A[p] == i and IDS_B[q] == i)
        row = sum(e[p, q] for p, q in pairs if IDS_A[p] == i)
        column = sum(e[p, q] for p, q in pairs if IDS_B[q] == i)
        total += math.log((row + column - (0 if double_count else own)) / own) / 2
    got = mil_nce(A, B, IDS_A, IDS_B, tau=0.5, double_count=double_count)
    assert float(got) == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize(("double_count", "floor"), [(True, math.log(2)), (False, 0.0)])
def test_mil_nce_has_its_lower_bound(double_count, floor):
    corner = torch.eye(3, dtype=torch.float64)
    ids = torch.arange(3)
    got = mil_nce(corner, corner.repeat(2, 1), ids, ids.repeat(2), tau=0.01, double_count=double_count)
    assert float(got) == pytest.approx(floor, abs=1e-12)


@pytest.mark.parametrize("double_count", [True, False])
def test_mil_nce_gradient_is_the_numeric_one(double_count):
    a, b = A[[0, 2, 3]].clone().requires_grad_(), B.clone().requires_grad_()
    ids = torch.tensor([0, 1, 1])
    assert torch.autograd.gradcheck(lambda x, y: mil_nce(x, y, ids, IDS_B, tau=0.3, double_count=double_count), (a, b))


def test_mil_nce_refuses_an_instance_without_text():
    with pytest.raises(ContrastError, match=r"one modality only.*ids 3"):
        mil_nce(A, B, torch.tensor([0, 0, 1, 3]), IDS_B)


@pytest.mark.parametrize(
    ("weights", "want"),
    [
        ({"image->text": 0.25, "text->image": 0.75}, 0.0024692180),
        ({"text->image": 0.25, "image->text": 0.75}, 0.0032056521),
        ({"text->image": 0.5, "image->text": 0.5}, 0.0028374351),
    ],
)
def test_tricolo_on_the_vectors_whatever_the_order_of_the_arguments(weights, want):
    image, text = A[[0, 2]], B[[0, 3]]
    for z in ({"image": image, "text": text}, {"text": text, "image": image}):
        assert float(weighted_nt_xent(z, weights)) == pytest.approx(want, **TEN)


def test_tricolo_sums_named_directions_of_three_modalities():
    z = {"image": A, "text": B[:4], "voxel": A.flip(0)}
    both = weighted_nt_xent(z, {"text->image": 0.25, "voxel->text": 0.75})
    apart = weighted_nt_xent(z, {"text->image": 0.25}) + weighted_nt_xent(z, {"voxel->text": 0.75})
    assert float(both) == pytest.approx(float(apart))


@pytest.mark.parametrize(
    ("weights", "says"),
    [({}, "no direction given"), ({"text->imag": 1.0}, "did you mean 'text->image'"), ({"text->text": 1}, "direction")],
)
def test_tricolo_refuses_directions_that_do_not_exist(weights, says):
    with pytest.raises(ContrastError, match=says):
        weighted_nt_xent({"image": A, "text": B[:4]}, weights)


def test_tricolo_refuses_rows_that_do_not_pair():
    with pytest.raises(ContrastError, match="rows differ in shape"):
        weighted_nt_xent({"image": A, "text": B}, {"text->image": 1.0})


def test_siglip_against_a_slow_reference():
    total = 0.0
    for p in range(4):
        for q in range(6):
            y = 1 if IDS_A[p] == IDS_B[q] else -1
            total += math.log(1 + math.exp(-y * (10 * float(A[p] @ B[q]) - 5))) / 4
    assert float(siglip(A, B, IDS_A, IDS_B, scale=10.0, bias=-5.0)) == pytest.approx(total, abs=1e-12)


def test_siglip_of_uninformative_logits_is_ln_2_for_every_row_of_b():
    assert float(siglip(A, B, IDS_A, IDS_B, scale=0.0, bias=0.0)) == pytest.approx(6 * math.log(2))


def test_siglip_gradient_is_the_numeric_one():
    scale, bias = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (5.0, -3.0))
    a, b = A.clone().requires_grad_(), B.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y, s, t: siglip(x, y, IDS_A, IDS_B, scale=s, bias=t), (a, b, scale, bias))


@pytest.mark.parametrize(
    "loss",
    [
        lambda a, b: mil_nce(a, b, IDS_A, IDS_B, tau=0.1),
        lambda a, b: weighted_nt_xent({"a": a, "b": b[:4]}, {"a->b": 1.0}),
        lambda a, b: siglip(a, b, IDS_A, IDS_B, scale=10.0, bias=-10.0),
    ],
)
def test_half_precision_rows_are_worked_on_in_float32(loss):
    a, b = A.half(), B.half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = loss(a, b)
    assert got.dtype == torch.float32
    assert float(got) == pytest.approx(float(loss(a.double(), b.double())), abs=1e-5)
