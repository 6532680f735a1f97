"""Supervised fusion: CoMM's network under cross-entropy."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmcontrast.errors import ConfigError
from mmcontrast.methods.base import build_method


def build(cell):
    torch.manual_seed(0)
    return build_method(cell)


def test_loss_is_cross_entropy_of_the_fused_embedding(make_cell, make_batch, make_progress):
    cell = make_cell("joint_fusion")
    method, batch = build(cell), make_batch(cell)
    scores = method.classifier(method.embed(batch))
    torch.testing.assert_close(method(batch, make_progress())["loss"], F.cross_entropy(scores, batch.labels))
    torch.testing.assert_close(method.logits(batch), scores)


def test_the_network_is_comms(make_cell, make_batch):
    comm, joint = build(make_cell("comm")), build(make_cell("joint_fusion"))
    shapes = {name: p.shape for name, p in comm.named_parameters() if not name.startswith("head")}
    assert {name: p.shape for name, p in joint.named_parameters() if not name.startswith("classifier")} == shapes
    batch = make_batch(make_cell("comm"))
    torch.testing.assert_close(joint.embed(batch), comm.embed(batch))


def test_pretraining_is_refused(make_cell):
    cell = make_cell("joint_fusion")
    with pytest.raises(ConfigError, match=r"joint_fusion\.yaml .*pretrain: .*no contrastive term"):
        build(cell.model_copy(update={"pretrain": cell.finetune}))
