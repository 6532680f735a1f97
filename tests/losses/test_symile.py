"""Symile: reference vectors, a slow reference, closed forms, tuples that are never a row's own, refusals."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from mmcontrast.errors import ContrastError
from mmcontrast.losses.pairwise import info_nce
from mmcontrast.losses.tuples import symile_loss
from mmcontrast.methods.baselines.tuples import drawn_tuples as tuples
from tests.losses.further_vectors import rows, unit

R = [unit(0), unit(1), unit(2)]
DRAWN = [
    [[1, 2, 3, 0], [2, 3, 0, 1]],
    [[3, 0, 1, 2], [1, 0, 3, 2]],
    [[2, 0, 3, 1], [0, 1, 2, 3]],
]


def tensors(permutations):
    return [[torch.tensor(p) for p in of] for of in permutations]


def test_vectors():
    assert symile_loss(R, 0.1).item() == pytest.approx(2.420375870369, abs=1e-9)
    assert symile_loss(R, 0.1, tensors(DRAWN)).item() == pytest.approx(0.696334729239, abs=1e-9)
    a = rows(0).requires_grad_()
    symile_loss([a, *R[1:]], 0.1).backward()
    assert a.grad[0, :2].tolist() == pytest.approx([0.1074326026360, 0.0154680499517], abs=1e-9)


@pytest.mark.parametrize(
    ("k", "every", "drawn"),
    [
        (0, 2.299975161541, 0.522038279081),
        (1, 2.603461686562, 1.061512227444),
        (2, 2.357690763003, 0.505453681191),
    ],
)
def test_vectors_by_anchor(k, every, drawn):
    assert slow(R, 10.0)[k] == pytest.approx(every, abs=1e-9)
    assert slow(R, 10.0, DRAWN)[k] == pytest.approx(drawn, abs=1e-9)


def slow(z, scale, permutations=None):
    """By anchor; every tuple on its own."""
    n, out = len(z[0]), []
    for k in range(len(z)):
        others, total = [o for o in range(len(z)) if o != k], 0.0
        for i in range(n):

            def score(chosen, i=i, k=k, others=others):
                value = z[k][i]
                for o, row in zip(others, chosen, strict=True):
                    value = value * z[o][row]
                return scale * float(value.sum())

            own = (i,) * len(others)
            if permutations is None:
                seen = list(product(range(n), repeat=len(others)))
            else:
                seen = [own, *(tuple(p[j] for p in permutations[k]) for j in range(n) if j != i)]
            total += math.log(sum(math.exp(score(c)) for c in seen)) - score(own)
        out.append(total / n)
    return out


@pytest.mark.parametrize("k", [2, 3, 4])
def test_slow_reference(k):
    g = torch.Generator().manual_seed(k)
    z = torch.randn(k, 4, 5, generator=g, dtype=torch.float64)
    z = list(z / z.norm(dim=2, keepdim=True))
    permutations = tuples(4, k, g)
    assert symile_loss(z, 1 / 7.0).item() == pytest.approx(sum(slow(z, 7.0)) / k, abs=1e-10)
    lists = [[p.tolist() for p in of] for of in permutations]
    assert symile_loss(z, 1 / 7.0, permutations).item() == pytest.approx(sum(slow(z, 7.0, lists)) / k, abs=1e-10)


def test_of_two_modalities_it_is_clip():
    expected = info_nce(R[0], R[1], 0.1)
    assert expected.item() == pytest.approx(5.302643682137, abs=1e-9)
    torch.testing.assert_close(symile_loss(R[:2], 0.1), expected)
    drawn = tuples(4, 2, torch.Generator().manual_seed(0))
    torch.testing.assert_close(symile_loss(R[:2], 0.1, drawn), expected)


@pytest.mark.parametrize("k", [2, 3])
def test_embeddings_all_alike(k):
    z = [torch.ones(5, 4, dtype=torch.float64)] * k
    assert symile_loss(z, 0.3).item() == pytest.approx((k - 1) * math.log(5), abs=1e-12)
    drawn = tuples(5, k, torch.Generator())
    assert symile_loss(z, 0.3, drawn).item() == pytest.approx(math.log(5), abs=1e-12)


def test_what_no_pair_tells_the_product_does():
    """Three signs whose product is 1: every two of them are independent, and the third follows."""
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randint(2, (16, 8), generator=g).double() * 2 - 1 for _ in range(2))
    # pairwise losses of a, b and a * b stay near those of unrelated rows, log 16 and above; Symile's falls
    assert min(info_nce(x, y, 0.1).item() for x, y in ((a, b), (a, a * b), (b, a * b))) > math.log(16)
    assert symile_loss([a, b, a * b], 0.01, tuples(16, 3, g)).item() < 0.5


@pytest.mark.parametrize("k", [3, 4])
def test_a_tuple_is_never_a_row_itself(k):
    g = torch.Generator().manual_seed(0)
    found = {False: 0, True: 0}
    for plain in found:
        for _ in range(50):
            for of in tuples(4, k, g, plain):
                assert all(sorted(p.tolist()) == [0, 1, 2, 3] for p in of)
                found[plain] += sum(len({p[j].item() for p in of}) == 1 for j in range(4))
    assert found[False] == 0
    assert found[True] > 0


def test_gradients():
    z = [rows(m, 3, 4).requires_grad_() for m in range(3)]
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda tau, *z: symile_loss(z, tau), (tau, *z))
    drawn = tuples(3, 3, torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda tau, *z: symile_loss(z, tau, drawn), (tau, *z))


@pytest.mark.parametrize(
    ("embeddings", "tau", "message"),
    [(R[:1], 1.0, "at least two, and got 1"), ([R[0], unit(1, 3)], 1.0, "one shape"), (R, 0.0, "temperature")],
)
def test_refusals(embeddings, tau, message):
    with pytest.raises(ContrastError, match=message):
        symile_loss(embeddings, tau)
