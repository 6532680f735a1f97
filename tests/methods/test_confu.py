"""ConFu: reference vectors, a slow reference, closed forms, subsets of any number of modalities, refusals."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch

from mmcontrast.config import Modality
from mmcontrast.errors import ContrastError
from mmcontrast.losses.pairwise import cmc, info_nce
from mmcontrast.losses.tuples import confu_loss
from mmcontrast.methods.base import build_method
from tests.losses.further_vectors import rows, unit

Z = {"1": unit(0), "2": unit(1), "3": unit(2)}
FUSED = {("1", "2"): unit(3), ("1", "3"): unit(4), ("2", "3"): unit(5)}


def test_vectors():
    assert confu_loss(Z, FUSED, 0.07, 0.5).item() == pytest.approx(3.596188641955, abs=1e-9)
    assert confu_loss(Z, FUSED, 0.07, 0.2).item() == pytest.approx(3.700167988915, abs=1e-9)


@pytest.mark.parametrize(
    ("subset", "outside", "value"),
    [("12", "3", 4.910627930572), ("13", "2", 5.901419258936), ("23", "1", 9.725291192623)],
)
def test_vectors_of_one_subset(subset, outside, value):
    """Fused terms alone, of two subsets and of three: their difference is the one."""
    subset = tuple(subset)
    others = {s: f for s, f in FUSED.items() if s != subset}
    one = 6 * confu_loss(Z, FUSED, 0.07, 1.0) - 5 * confu_loss(Z, others, 0.07, 1.0)
    assert one.item() == pytest.approx(value, abs=1e-9)
    assert info_nce(FUSED[subset], Z[outside], 0.07).item() == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(("pair", "value"), [("12", 7.356836544174), ("23", 3.916303262224), ("13", 11.343785514930)])
def test_vectors_of_a_pair(pair, value):
    assert confu_loss({m: Z[m] for m in pair}, {}, 0.07).item() == pytest.approx(value, abs=1e-9)


def slow_clip(a, b, tau):
    a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    total = 0.0
    for i in range(len(a)):
        for x, y in ((a, b), (b, a)):
            scores = [float(x[i] @ y[j]) / tau for j in range(len(a))]
            total += (math.log(sum(map(math.exp, scores))) - scores[i]) / (2 * len(a))
    return total


def test_slow_reference_of_four_modalities():
    g = torch.Generator().manual_seed(0)
    z = {m: torch.randn(5, 3, generator=g, dtype=torch.float64) for m in "abcd"}
    subsets = [s for size in (2, 3) for s in combinations("abcd", size)]
    fused = {s: torch.randn(5, 3, generator=g, dtype=torch.float64) for s in subsets}
    terms = [(0.3, fused[s], z[m]) for s in subsets for m in "abcd" if m not in s]
    terms += [(0.7, z[a], z[b]) for a, b in combinations("abcd", 2)]
    assert len(terms) == 22
    expected = sum(w * slow_clip(a, b, 0.4) for w, a, b in terms) / 22
    assert confu_loss(z, fused, 0.4, 0.3).item() == pytest.approx(expected, abs=1e-10)


def test_without_subsets_or_their_weight_it_is_cross():
    expected = cmc(list(Z.values()), 0.07, info_nce)
    torch.testing.assert_close(confu_loss(Z, {}, 0.07), expected)
    torch.testing.assert_close(confu_loss(Z, FUSED, 0.07, 0.0), expected)


def test_embeddings_all_alike():
    alike = torch.ones(5, 3, dtype=torch.float64)
    loss = confu_loss(dict.fromkeys(Z, alike), dict.fromkeys(FUSED, alike), 0.3)
    assert loss.item() == pytest.approx(math.log(5) / 2, abs=1e-12)


def test_gradients():
    z = [rows(m, 3, 4).requires_grad_() for m in range(6)]

    def loss(*z):
        return confu_loss(dict(zip(Z, z[:3], strict=True)), dict(zip(FUSED, z[3:], strict=True)), 0.5, 0.3)

    assert torch.autograd.gradcheck(loss, z)


@pytest.mark.parametrize(
    ("z", "fused", "message"),
    [
        ({"1": unit(0)}, {}, "at least two, and got 1"),
        (Z | {"3": unit(1, 3)}, {}, "one shape"),
    ],
)
def test_refusals(z, fused, message):
    with pytest.raises(ContrastError, match=message):
        confu_loss(z, fused)


@pytest.mark.parametrize(("k", "subsets"), [(2, 0), (3, 3), (4, 10)])
def test_subsets(make_cell, make_batch, make_progress, k, subsets):
    cell = make_cell("confu")
    four = {**cell.modalities, "fourth": Modality(kind="vector", shape=[3])}
    cell = cell.model_copy(update={"modalities": dict(list(four.items())[:k])})
    method = build_method(cell)
    assert len(method.subsets) == subsets
    assert method(make_batch(cell), make_progress("pretrain"))["loss"].isfinite()
    assert method.embed(make_batch(cell)).shape == (12, (k + subsets) * 24)


def test_what_is_made_of_a_missing_modality_is_zeros(make_cell, make_batch, lacking):
    cell = make_cell("confu")
    a, b, c = cell.modalities
    method = build_method(cell)
    whole = make_batch(cell)
    batch = lacking(whole, [(1, (0, 5))])
    views = method.embeddings(batch)
    order = [(a,), (b,), (c,), (a, b), (a, c), (b, c)]
    full, missing = (z.unflatten(1, (6, 24)) for z in (method.embed(whole), views[""]))
    for k, subset in enumerate(order):
        assert torch.equal(missing[0, k], torch.zeros(24) if b in subset else full[0, k])
    torch.testing.assert_close(views[f"without_{b}"][0], views[""][0])
    torch.testing.assert_close(
        method.embeddings(whole)[f"without_{b}"][:6], torch.where((missing[0] != 0)[None], full[:6], 0.0).flatten(1)
    )
