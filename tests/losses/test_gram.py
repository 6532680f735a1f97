"""GRAM and TRIANGLE: reference vectors, a slow reference, closed forms, what lies in a plane, refusals."""

from __future__ import annotations

import math

import pytest
import torch

from mmcontrast.errors import ContrastError
from mmcontrast.losses.tuples import _areas, _volumes, gram_loss
from tests.losses.further_vectors import rows, unit

U = [unit(m) for m in range(4)]


def volumes(k):
    return _volumes(*U[:k]).sqrt()


def test_vectors_of_volumes():
    """As the released code gives them (float32) to 1e-5, as a float64 determinant gives them to 1e-9."""
    expected = {
        (3, 0): [0.219210488408, 0.956665175686, 0.792333291489, 0.004075052522],
        (3, 3): [0.956126665644, 0.635724425683, 0.836429651899, 0.856070780381],
        (2, 0): [0.941322383917, 0.999888390590, 0.807801537499, 0.930615354527],
        (4, 0): [0.174646596513, 0.278817746241, 0.692440264089, 0.003358768397],
    }
    for (k, i), values in expected.items():
        assert volumes(k)[i].tolist() == pytest.approx(values, abs=1e-9)


def test_vectors_of_losses():
    def loss(k, **options):
        return gram_loss(U[:k], 0.07, 0, eps=0.0, **options).item()

    assert loss(3, smoothing=0.0) == pytest.approx(5.681115510715, abs=1e-9)
    assert loss(3) == pytest.approx(5.551621931942, abs=1e-9)
    assert loss(4) == pytest.approx(3.829615578975, abs=1e-9)
    symmetric = gram_loss(U[:3], 0.07, eps=0.0)
    assert symmetric.item() == pytest.approx(5.496742750318, abs=1e-9)
    # eps moves a volume by less than half of it over the volume
    assert gram_loss(U[:3], 0.07, 0).item() == pytest.approx(5.551621931942, abs=1e-5)


def test_vectors_of_the_triangle():
    paper = [1.202413598977, 0.958686756853, 0.931227323925, 0.888404051974]
    code = [2.891596926009, 1.838160595532, 1.734368657650, 1.578523519126]
    assert (_areas(*U[:3]).sqrt() / 2)[0].tolist() == pytest.approx(paper, abs=1e-9)
    assert (_areas(*U[:3]) / 2)[0].tolist() == pytest.approx(code, abs=1e-9)
    for root, value in ((True, 6.581073212749), (False, 15.568984568923)):
        loss = gram_loss(U[:3], 0.07, 0, form="triangle", eps=0.0, root=root)
        assert loss.item() == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_volumes_are_the_roots_of_gram_determinants(k):
    z = torch.randn(k, 6, 7, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
    z = z / z.norm(dim=2, keepdim=True)
    for i in range(6):
        for j in range(6):
            tuple_KP = torch.stack([z[0, i], *z[1:, j]])
            expected = torch.linalg.det(tuple_KP @ tuple_KP.T).sqrt()
            torch.testing.assert_close(_volumes(*z)[i, j].sqrt(), expected, rtol=1e-10, atol=1e-10)


def test_slow_reference_of_the_loss():
    v, n, total = volumes(3), 4, 0.0
    for logits in (-v / 0.2, -v.T / 0.2):
        for i in range(n):
            log_p = logits[i] - logits[i].exp().sum().log()
            total -= sum(((0.9 if j == i else 0.0) + 0.1 / n) * float(log_p[j]) for j in range(n)) / (2 * n)
    assert gram_loss(U[:3], 0.2, 0, eps=0.0).item() == pytest.approx(total, abs=1e-10)


def test_rows_all_alike_and_at_right_angles():
    z = torch.eye(4, dtype=torch.float64)
    assert torch.equal(_volumes(z, z.roll(1, 0)).diagonal(), torch.ones(4, dtype=torch.float64))
    alike = [torch.ones(5, 3, dtype=torch.float64)] * 3
    for form in ("volume", "triangle"):
        assert gram_loss(alike, form=form).item() == pytest.approx(math.log(5), abs=1e-12)


def test_of_two_modalities_opposite_vectors_are_the_same():
    torch.testing.assert_close(_volumes(U[0], -U[1]).sqrt(), volumes(2))
    torch.testing.assert_close(volumes(2).square(), 1 - (U[0] @ U[1].T).square())


@pytest.mark.parametrize("form", ["volume", "triangle"])
def test_a_tuple_without_volume_has_a_finite_gradient(form):
    """Identical rows; in the plane; nearly so: in float32 too."""
    z = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    for others in ([z, z], [z + 1e-7, z - 1e-7], [2 * z, z.roll(1, 0)], [z.roll(1, 0), z + z.roll(1, 0)]):
        leaves = [x.clone().requires_grad_() for x in (z, *others)]
        gram_loss(leaves, form=form).backward()
        assert all(x.grad.isfinite().all() and x.grad.abs().max() < 1e4 for x in leaves)


@pytest.mark.parametrize("options", [{}, {"form": "triangle"}, {"form": "triangle", "root": False}], ids=str)
def test_gradients(options):
    z = [rows(m, 3, 4).requires_grad_() for m in range(3)]
    assert torch.autograd.gradcheck(lambda *z: gram_loss(z, 0.5, 0, **options), z)
    assert torch.autograd.gradcheck(lambda *z: gram_loss(z, 0.5, **options), z)


@pytest.mark.parametrize(
    ("embeddings", "options", "message"),
    [
        (U[:1], {}, "at least two, and got 1"),
        (U[:2], {"form": "triangle"}, "a triangle is of three modalities, and got 2"),
        ([U[0], unit(1, 3)], {}, "one shape"),
        (U[:2], {"tau": 0.0}, "temperature"),
    ],
)
def test_refusals(embeddings, options, message):
    with pytest.raises(ContrastError, match=message):
        gram_loss(embeddings, **options)
