"""TupleInfoNCE where rows repeat scenes: no row of an anchor's scene lends it a modality or is its negative."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mmcontrast.errors import TrainingError
from mmcontrast.methods.base import Batch, build_method
from mmcontrast.methods.tuple_infonce.negatives import derangement

SCENES = torch.tensor([4, 4, 4, 7, 7, 1, 1, 9])
B = len(SCENES)


def make(make_cell, make_batch, **objective):
    cell = make_cell("tuple_infonce", **{"augmentations": {"vector": []}, "tau": 0.2, **objective})
    torch.manual_seed(0)
    return build_method(cell).double(), replace(make_batch(cell, B, torch.float64), scenes=SCENES)


@pytest.mark.parametrize("fusion", ["late", "early"])
def test_the_loss_is_that_of_rows_of_other_scenes(make_cell, make_batch, make_progress, fusion):
    method, batch = make(make_cell, make_batch, fusion=fusion)
    generator = torch.Generator().manual_seed(5)
    keys = [batch.inputs]
    for name in method.modalities:
        source = derangement(B, generator, SCENES)
        assert (SCENES[source] != SCENES).all()
        keys.append({m: x[source] if m == name else x for m, x in batch.inputs.items()})
    units = [F.normalize(method.embed(Batch(x, batch.labels)), dim=-1) for x in keys]
    barred = (SCENES[:, None] == SCENES) & ~torch.eye(B, dtype=torch.bool)
    logits = []
    for k, unit in enumerate(units):
        weight = math.log((B - 1) / B) if k else 0.0
        logits.append((units[0] @ unit.detach().T / 0.2 + weight).masked_fill(barred, -math.inf))
    terms = method(batch, make_progress("pretrain", seed=5))
    torch.testing.assert_close(terms["loss"], F.cross_entropy(torch.cat(logits, dim=1), torch.arange(B)))


def test_every_replacement_of_the_own_row_comes_from_another_scene(make_cell, make_batch, make_progress):
    method, batch = make(make_cell, make_batch, rows="every_own", fusion_hidden=[], form="weight", alpha=2.0)
    losses = []
    z = F.normalize(method.embed(batch), dim=-1)
    for i in range(B):
        others = [j for j in range(B) if SCENES[j] != SCENES[i]]
        own = (z[i] @ z[i] / 0.2).exp()
        total = own + sum((z[i] @ z[j] / 0.2).exp() for j in others)
        for name in method.modalities:
            for j in others:
                mixed = {m: x[[j if m == name else i]] for m, x in batch.inputs.items()}
                key = F.normalize(method.embed(Batch(mixed, batch.labels[:1])), dim=-1)[0]
                total = total + 2 * (z[i] @ key / 0.2).exp()
        losses.append(total.log() - own.log())
    loss = method(batch, make_progress("pretrain"))["loss"]
    torch.testing.assert_close(loss, torch.stack(losses).mean())


@pytest.mark.parametrize("change", [{}, {"fusion": "early"}, {"rows": "every_own", "fusion_hidden": []}], ids=str)
def test_rows_that_are_all_of_scenes_of_their_own_change_no_bit(make_cell, make_batch, make_progress, change):
    method, batch = make(make_cell, make_batch, **change)
    alone = replace(batch, scenes=torch.arange(B).flip(0))
    progress = make_progress("pretrain", seed=2), make_progress("pretrain", seed=2)
    plain = method(replace(batch, scenes=None), progress[0])
    marked = method(alone, progress[1])
    assert all(torch.equal(plain[name], value) for name, value in marked.items())
    assert torch.equal(progress[0].generator.get_state(), progress[1].generator.get_state())


@pytest.mark.parametrize("change", [{}, {"fusion": "early"}, {"rows": "every_own", "fusion_hidden": []}], ids=str)
def test_a_scene_that_fills_a_batch_is_refused(make_cell, make_batch, make_progress, change):
    method, batch = make(make_cell, make_batch, **change)
    with pytest.raises(TrainingError, match="all 8 rows of a batch are of scene 3, so no row can lend another"):
        method(replace(batch, scenes=torch.full((B,), 3)), make_progress("pretrain"))
