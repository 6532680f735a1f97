from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmcontrast.errors import ConfigError, ContrastError
from mmcontrast.losses.pairwise import info_nce
from mmcontrast.methods.base import build_method


def test_base_is_cross_entropy_of_the_fused_scores(make_cell, make_batch, make_progress):
    cell = make_cell("concat")
    method, batch = build_method(cell), make_batch(cell)
    terms = method(batch, make_progress())
    assert terms.keys() == {"loss", "fusion"}
    torch.testing.assert_close(terms["loss"], F.cross_entropy(method.logits(batch), batch.labels))


@pytest.mark.parametrize(
    ("n_modalities", "pairing", "pairs"),
    [
        (2, "ring", ["01", "10"]),
        (3, "ring", ["01", "12", "20"]),
        (4, "ring", ["01", "12", "23", "30"]),
        (3, "all", ["01", "02", "10", "12", "20", "21"]),
    ],
)
def test_terms_by_hand(make_cell, make_batch, make_progress, n_modalities, pairing, pairs):
    cell = make_cell("concat", "clip", n_modalities, pairing=pairing, beta=0.3, tau=0.2)
    method, batch = build_method(cell), make_batch(cell)
    z = method.embed(batch).split(cell.model.width, dim=-1)
    contrast = sum(info_nce(z[int(a)], z[int(b)], 0.2) for a, b in pairs)
    fusion = F.cross_entropy(method.logits(batch), batch.labels)
    scores = [method.unimodal_heads[m](x) for m, x in zip(cell.modalities, z, strict=True)]
    unimodal = sum(F.cross_entropy(s, batch.labels) for s in scores)
    terms = method(batch, make_progress())
    torch.testing.assert_close(terms["info_nce"], contrast)
    torch.testing.assert_close(terms["unimodal"], unimodal)
    expected = fusion + unimodal + 0.3 * contrast
    torch.testing.assert_close(terms["loss"], expected)
    weights = list(method.parameters())
    torch.testing.assert_close(torch.autograd.grad(terms["loss"], weights), torch.autograd.grad(expected, weights))


def test_embeddings_stand_side_by_side_in_the_order_of_the_modalities(make_cell, make_batch):
    cell = make_cell("concat")
    method, batch = build_method(cell), make_batch(cell)
    for m, z in zip(cell.modalities, method.embed(batch).split(cell.model.width, dim=-1), strict=True):
        assert torch.equal(z, method.encoders[m](batch.inputs[m]))


def with_pretraining(cell):
    return cell.model_copy(update={"pretrain": cell.finetune})


def test_pretraining_is_info_nce_alone(make_cell, make_batch, make_progress):
    cell = with_pretraining(make_cell("concat", "clip"))
    method, batch = build_method(cell), make_batch(cell)
    pretrain = method(batch, make_progress("pretrain"))
    assert pretrain.keys() == {"loss", "info_nce"}
    assert torch.equal(pretrain["loss"], method(batch, make_progress("finetune"))["info_nce"])


def test_pretraining_without_a_contrastive_term_is_refused(make_cell):
    with pytest.raises(ConfigError, match=r"params/methods/concat\.yaml .*pretrain: .*set objective\.beta above 0"):
        build_method(with_pretraining(make_cell("concat")))


def test_one_modality_can_be_classified_but_not_contrasted(make_cell, make_batch, make_progress):
    cell = make_cell("concat", n_modalities=1)
    assert build_method(cell)(make_batch(cell), make_progress())["loss"].isfinite()
    with pytest.raises(ContrastError, match="at least two"):
        build_method(make_cell("concat", "clip", n_modalities=1))
