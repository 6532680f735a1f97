from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmcontrast.errors import ConfigError
from mmcontrast.methods.base import Batch, build_method
from mmcontrast.methods.baselines.supervised import mean_prediction


@pytest.mark.parametrize("seen", ["mrna", "methylation", "mirna"])
def test_one_modality_neither_sees_nor_holds_the_others(make_cell, make_batch, make_progress, seen):
    cell = make_cell("unimodal", seen)
    method, batch = build_method(cell), make_batch(cell)
    assert {name.split(".")[1] for name, _ in method.named_parameters()} == {seen}
    alone = Batch({seen: batch.inputs[seen]}, batch.labels)
    scores = method.heads[seen](method.encoders[seen](batch.inputs[seen]))
    torch.testing.assert_close(method(alone, make_progress())["loss"], F.cross_entropy(scores, batch.labels))
    torch.testing.assert_close(method.logits(alone), scores.log_softmax(-1))
    assert torch.equal(method.embed(alone), method.encoders[seen](batch.inputs[seen]))


def test_late_fusion_averages_probabilities(make_cell, make_batch):
    cell = make_cell("unimodal")
    method, batch = build_method(cell), make_batch(cell)
    z = method.embed(batch).split(cell.model.width, dim=-1)
    probs = [method.heads[m](x).softmax(-1) for m, x in zip(cell.modalities, z, strict=True)]
    torch.testing.assert_close(method.logits(batch).exp(), sum(probs) / 3)


def test_late_fusion_trains_each_modality_as_if_alone(make_cell, make_batch, make_progress):
    cell = make_cell("unimodal")
    method, batch = build_method(cell), make_batch(cell)
    terms = method(batch, make_progress())
    torch.testing.assert_close(terms["loss"], sum(terms[f"unimodal_{m}"] for m in cell.modalities))
    terms["unimodal_mrna"].backward()
    touched = {name.split(".")[1] for name, p in method.named_parameters() if p.grad is not None}
    assert touched == {"mrna"}


def test_confident_scores_do_not_overflow():
    scores = torch.tensor([[1e4, -1e4]])
    assert mean_prediction("classes", [scores, scores.flip(-1)]).exp().tolist() == [[pytest.approx(0.5)] * 2]


def test_a_modality_the_dataset_lacks_is_named(make_cell):
    with pytest.raises(ConfigError, match="no modality 'mrma'; did you mean 'mrna'"):
        build_method(make_cell("unimodal", modality="mrma"))


def test_pretraining_is_refused(make_cell):
    cell = make_cell("unimodal")
    with pytest.raises(ConfigError, match=r"params/methods/unimodal\.yaml .*nothing to pretrain with"):
        build_method(cell.model_copy(update={"pretrain": cell.finetune}))
