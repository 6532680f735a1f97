"""FactorCL's wiring: six bounds on heads of their own, critics that are moved by their own loss alone."""

from __future__ import annotations

import pytest
import torch

from mmcontrast.errors import ConfigError, ContrastError
from mmcontrast.losses.disentangled import LOWER_TERMS, UPPER_TERMS, club_bound, info_nce_bound
from mmcontrast.methods.base import build_method
from mmcontrast.methods.baselines.disentangled import HEADS
from mmcontrast.methods.self_supervised import augmented


def build(cell):
    torch.manual_seed(0)
    return build_method(cell)


@pytest.fixture
def two(make_cell, make_batch):
    cell = make_cell("factorcl", n_modalities=2)
    return build(cell), make_batch(cell)


def test_terms_by_hand(two, make_progress):
    method, batch = two
    terms = method(batch, make_progress("pretrain"))
    changed = augmented(method.augmenters, batch, make_progress("pretrain"))
    (factor,), (a, b) = method.factors, method.modalities

    def heads(inputs, name):
        return factor.first[name](method.encoders[a](inputs[a])), factor.second[name](method.encoders[b](inputs[b]))

    def beside(name):
        plain, other = heads(batch.inputs, name), heads(changed, name)
        return [torch.cat(pair, dim=1) for pair in zip(plain, other, strict=True)]

    inputs = {name: heads(batch.inputs, name) for name in ("cross", "cross_club")}
    inputs |= {name: beside(name) for name in ("conditional", "conditional_club")}
    own, other = heads(batch.inputs, "self"), heads(changed, "self")
    inputs |= {"self1": (own[0], other[0]), "self2": (own[1], other[1])}
    scores = {name: factor.critics[name](*x) for name, x in inputs.items()}
    expected = {name: -info_nce_bound(scores[name]) for name in LOWER_TERMS}
    expected |= {name: club_bound(scores[name]) for name in UPPER_TERMS}
    expected["critics"] = sum(-info_nce_bound(scores[name]) for name in UPPER_TERMS)
    assert terms.keys() == {*expected, "loss"}
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms["loss"], sum(expected.values()), rtol=1e-4, atol=1e-5)


def test_critics_of_upper_bounds_are_moved_by_their_own_loss_alone(two, make_progress):
    method, batch = two

    def gradients(name):
        method.zero_grad()
        method(batch, make_progress("pretrain"))[name].backward()
        return {n for n, p in method.named_parameters() if p.grad is not None}

    critics = {n for n, _ in method.named_parameters() if any(f"critics.{term}." in n for term in UPPER_TERMS)}
    assert gradients("critics") == critics
    for term in UPPER_TERMS:
        moved = gradients(term)
        assert moved
        assert not moved & critics


def test_three_modalities_are_taken_pair_by_pair(make_cell, make_batch, make_progress):
    cell = make_cell("factorcl")
    method, batch = build(cell), make_batch(cell)
    assert method.pairs == [(a, b) for i, a in enumerate(cell.modalities) for b in list(cell.modalities)[i + 1 :]]
    assert method.embed(batch).shape == (12, 3 * 2 * len(HEADS) * cell.model.width)
    whole = method(batch, make_progress("pretrain"))
    plain, changed = (
        method._heads(x) for x in (batch.inputs, augmented(method.augmenters, batch, make_progress("pretrain")))
    )
    each = [f.losses(*h) for f, *h in zip(method.factors, plain, changed, strict=True)]
    torch.testing.assert_close(whole["cross"], torch.stack([e["cross"] for e in each]).mean())


def test_refusals(make_cell):
    with pytest.raises(ContrastError, match="at least two"):
        build(make_cell("factorcl", n_modalities=1))
    cell = make_cell("factorcl")
    with pytest.raises(ConfigError, match=r"factorcl\.yaml .*finetune: .*no classifier"):
        build(cell.model_copy(update={"finetune": cell.pretrain}))
