from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmcontrast.errors import ConfigError
from mmcontrast.methods.base import Batch, build_method
from mmcontrast.methods.baselines import supervised
from mmcontrast.methods.baselines.supervised import mixed_label_loss


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_two_labels_weigh_as_a_mixed_label(weight):
    scores = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    labels, partners = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([1, 1, 0, 2, 3, 0])
    mixed = weight * F.one_hot(labels, 4) + (1 - weight) * F.one_hot(partners, 4)
    torch.testing.assert_close(mixed_label_loss(scores, labels, partners, weight), F.cross_entropy(scores, mixed))


@pytest.mark.parametrize("unimodal_heads", [True, False])
def test_all_modalities_share_one_coefficient_and_one_partner(
    make_cell, make_batch, make_progress, monkeypatch, unimodal_heads
):
    cell = make_cell("mixup", unimodal_heads=unimodal_heads)
    method, batch = build_method(cell), make_batch(cell)
    monkeypatch.setattr(supervised, "sample_beta", lambda *_: torch.tensor([0.3], dtype=torch.float64))
    partner = torch.randperm(12, generator=torch.Generator().manual_seed(4))
    inputs = {m: 0.3 * x + 0.7 * x[partner] for m, x in batch.inputs.items()}
    fused = method.logits(Batch(inputs, batch.labels))
    expected = 0.3 * F.cross_entropy(fused, batch.labels) + 0.7 * F.cross_entropy(fused, batch.labels[partner])
    terms = method(batch, make_progress(seed=4))
    torch.testing.assert_close(terms["fusion"], expected)
    assert ("unimodal" in terms) == unimodal_heads
    torch.testing.assert_close(terms["loss"], sum(t for name, t in terms.items() if name != "loss"))


def test_without_mixing_it_is_concatenation(make_cell, make_batch, make_progress, monkeypatch):
    monkeypatch.setattr(supervised, "sample_beta", lambda *_: torch.ones(1, dtype=torch.float64))
    losses = []
    for cell in (make_cell("mixup"), make_cell("concat", "unimodal_heads")):
        torch.manual_seed(0)
        losses.append(build_method(cell)(make_batch(cell), make_progress())["loss"])
    torch.testing.assert_close(*losses)


def test_pretraining_is_refused(make_cell):
    cell = make_cell("mixup")
    with pytest.raises(ConfigError, match=r"params/methods/mixup\.yaml .*nothing to pretrain with"):
        build_method(cell.model_copy(update={"pretrain": cell.finetune}))
