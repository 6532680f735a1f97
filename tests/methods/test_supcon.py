"""SupCon between modalities: which embeddings meet, and what is refused."""

from __future__ import annotations

import pytest
import torch

from mmcontrast.errors import ConfigError, ContrastError
from mmcontrast.losses.supervised import supcon
from mmcontrast.methods.base import build_method


def build(cell):
    torch.manual_seed(0)
    return build_method(cell)


@pytest.mark.parametrize("n_modalities", [2, 3])
def test_loss_is_supcon_of_every_modalitys_projection(make_cell, make_batch, make_progress, n_modalities):
    cell = make_cell("supcon", n_modalities=n_modalities, tau=0.3)
    method, batch = build(cell), make_batch(cell)
    views = [method.heads[m](method.encoders[m](batch.inputs[m])) for m in cell.modalities]
    torch.testing.assert_close(method(batch, make_progress())["loss"], supcon(views, batch.labels, 0.3))


def test_it_ends_in_no_classifier_and_is_probed(make_cell, make_batch):
    cell = make_cell("supcon")
    method, batch = build(cell), make_batch(cell)
    assert (cell.stages, cell.scored_by, method.logits(batch)) == (["finetune"], "probe", None)
    assert method.embed(batch).shape == (12, 3 * cell.model.width)


def test_refusals(make_cell):
    with pytest.raises(ContrastError, match="at least two"):
        build(make_cell("supcon", n_modalities=1))
    cell = make_cell("supcon")
    with pytest.raises(ConfigError, match=r"supcon\.yaml .*pretrain: .*its loss needs labels"):
        build(cell.model_copy(update={"pretrain": cell.finetune}))
