"""Cross, Cross + Self and SimCLR: which terms they take, on what, through which heads."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from mmcontrast.errors import ConfigError, ContrastError
from mmcontrast.losses.pairwise import cmc, info_nce, nt_xent
from mmcontrast.methods.base import build_method
from mmcontrast.methods.self_supervised import augmented

TAU = 0.3


def build(cell):
    torch.manual_seed(0)
    return build_method(cell)


def mean(values):
    return torch.stack(list(values)).mean()


def projected(method, inputs):
    return [method.heads[m](method.encoders[m](inputs[m])) for m in method.modalities]


@pytest.mark.parametrize("n_modalities", [2, 3])
@pytest.mark.parametrize(("name", "pair_loss"), [("info_nce", info_nce), ("nt_xent", nt_xent)])
def test_cross_is_the_mean_over_pairs(make_cell, make_batch, make_progress, n_modalities, name, pair_loss):
    cell = make_cell("cross", "base", n_modalities, tau=TAU, cross_loss=name)
    method, batch = build(cell), make_batch(cell)
    terms = method(batch, make_progress("pretrain"))
    expected = mean(pair_loss(a, b, TAU) for a, b in combinations(projected(method, batch.inputs), 2))
    assert terms.keys() == {"loss", "cross"}
    torch.testing.assert_close(terms["cross"], expected)
    torch.testing.assert_close(terms["loss"], expected)


def test_cross_sees_one_augmentation_of_each_input_where_it_is_asked_to(make_cell, make_batch, make_progress):
    cell = make_cell("cross", tau=TAU, cross_augmented=True, augmentations={"vector": [{"name": "noise", "std": 0.5}]})
    method, batch = build(cell), make_batch(cell)
    loss = method(batch, make_progress("pretrain"))["loss"]
    view = augmented(method.augmenters, batch, make_progress("pretrain"))
    expected = mean(info_nce(a, b, TAU) for a, b in combinations(projected(method, view), 2))
    torch.testing.assert_close(loss, expected)
    plain = build(make_cell("cross", tau=TAU))(batch, make_progress("pretrain"))["loss"]
    assert (loss - plain).abs() > 1e-3


@pytest.mark.parametrize("n_modalities", [1, 3])
def test_simclr_is_the_mean_over_modalities(make_cell, make_batch, make_progress, n_modalities):
    cell = make_cell("simclr", n_modalities=n_modalities, tau=TAU)
    method, batch = build(cell), make_batch(cell)
    terms = method(batch, make_progress("pretrain"))
    progress = make_progress("pretrain")
    views = [projected(method, augmented(method.augmenters, batch, progress)) for _ in range(2)]
    expected = mean(nt_xent(a, b, TAU) for a, b in zip(*views, strict=True))
    assert terms.keys() == {"loss", "self"}
    torch.testing.assert_close(terms["loss"], expected)


def test_in_simclr_no_modality_sees_another(make_cell, make_batch, make_progress):
    cell = make_cell("simclr")
    method, batch = build(cell), make_batch(cell)
    others = [*method.encoders.values()][1:]
    z_first = method.project(batch.inputs, lambda x: x)[0]
    weights = [p for encoder in others for p in encoder.parameters()]
    gradients = torch.autograd.grad(z_first.sum(), weights, allow_unused=True)
    assert weights
    assert all(g is None for g in gradients)


def test_weights_combine_the_terms(make_cell, make_batch, make_progress):
    cell = make_cell("cross_self", cross_weight=0.5, self_weight=2.0)
    method, batch = build(cell), make_batch(cell)
    terms = method(batch, make_progress("pretrain"))
    torch.testing.assert_close(terms["loss"], 0.5 * terms["cross"] + 2 * terms["self"])


def test_embeddings_stand_side_by_side_without_heads(make_cell, make_batch):
    cell = make_cell("cross_self")
    method, batch = build(cell), make_batch(cell)
    for m, z in zip(cell.modalities, method.embed(batch).split(cell.model.width, dim=-1), strict=True):
        assert torch.equal(z, method.encoders[m](batch.inputs[m]))


@pytest.mark.parametrize(("head", "width"), [("mlp", 24), ("linear", 24), ("none", 16)])
def test_heads(make_cell, make_batch, head, width):
    cell = make_cell("cross", head=head)
    method, batch = build(cell), make_batch(cell)
    z = method.project(batch.inputs, lambda x: x)
    assert [p.shape for p in z] == [(12, width)] * 3
    layers = sum(isinstance(layer, torch.nn.Linear) for layer in method.heads.modules())
    assert layers == {"mlp": 9, "linear": 3, "none": 0}[head]


def test_encoders_and_recipe_are_comms(make_cell):
    comm = make_cell("comm")
    for name in ("cross", "cross_self", "simclr"):
        cell = make_cell(name)
        assert (cell.model, cell.pretrain, cell.selection) == (comm.model, comm.pretrain, comm.selection)
    for name in ("cross_self", "simclr"):
        assert make_cell(name).objective["augmentations"] == comm.objective["augmentations"]


def test_refusals(make_cell):
    with pytest.raises(ContrastError, match="at least two"):
        build(make_cell("cross", n_modalities=1))
    cell = make_cell("cross")
    with pytest.raises(ConfigError, match=r"params/methods/cross\.yaml .*model\.projection"):
        build(cell.model_copy(update={"model": cell.model.model_copy(update={"projection": []})}))
    with pytest.raises(ConfigError, match=r"cross\.yaml .*finetune: .*no classifier"):
        build(cell.model_copy(update={"finetune": cell.pretrain}))


def test_heads_are_scored_where_asked_and_without_a_modality_its_part_is_zero(make_cell, make_batch):
    cell = make_cell("cmc")
    method, batch = build(cell), make_batch(cell)
    views = method.embeddings(batch)
    heads = [torch.nn.functional.normalize(z, dim=-1) for z in projected(method, batch.inputs)]
    torch.testing.assert_close(views[""], torch.cat(heads, dim=-1))
    torch.testing.assert_close(method.embed(batch), views[""])
    torch.testing.assert_close(views["encoders"], method.encodings(batch))
    for i, m in enumerate(method.modalities):
        parts = [torch.zeros_like(z) if j == i else z for j, z in enumerate(heads)]
        torch.testing.assert_close(views[f"without_{m}"], torch.cat(parts, dim=-1))
    plain = build(make_cell("cross"))
    assert list(plain.embeddings(batch)) == [""]


def test_a_star_has_one_modality_in_every_pair(make_cell, make_batch, make_progress):
    cell = make_cell("cross", "star", tau=TAU)
    a, b, c = cell.modalities
    for anchor, others in ((None, (1, 2)), (b, (0, 2))):
        method, batch = build(make_cell("cross", "star", tau=TAU, anchor=anchor)), make_batch(cell)
        z = projected(method, batch.inputs)
        hub = z[list(cell.modalities).index(anchor or a)]
        expected = mean(info_nce(hub, z[k], TAU) for k in others)
        torch.testing.assert_close(method(batch, make_progress("pretrain"))["cross"], expected)
    two = [torch.eye(3), torch.eye(3).roll(1, 0)]
    assert torch.equal(cmc(two, TAU, anchor=1), cmc(two, TAU))
    with pytest.raises(ConfigError, match=r"objective.anchor: dataset 'synthetic': no modality 'x'; known"):
        build(make_cell("cross", "star", anchor="x"))
    with pytest.raises(ValueError, match="anchor: of pairs: star alone, and pairs is all"):
        build(make_cell("cross", anchor=c))
