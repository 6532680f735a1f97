"""MXM-CLR's reconstruction: what the method makes of a multifold batch. The loss itself: tests/losses."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmcontrast.errors import ConfigError
from mmcontrast.methods.base import Batch, build_method
from mmcontrast.methods.mxm_clr.loss import multifold_pairs_terms, multifold_terms
from mmcontrast.methods.mxm_clr.objective import MXMCLRObjective

IDS = {"a": [4, 4, 9, 2, 2, 2], "b": [4, 9, 9, 2, 2]}


def ragged(cell, seed=0):
    """Six rows of one modality, five of the next, of three instances."""
    g = torch.Generator().manual_seed(seed)
    names = list(cell.modalities)
    rows = dict(zip(names, (IDS["a"], IDS["b"], IDS["a"]), strict=False))
    inputs = {m: torch.randn(len(ids), *cell.modalities[m].shape, generator=g) for m, ids in rows.items()}
    ids = {m: torch.tensor(i) for m, i in rows.items()}
    return Batch(inputs, torch.tensor([0, 1, 2]), ids)


def made(make_cell, n_modalities=2, **objective):
    torch.manual_seed(0)
    return build_method(make_cell("mxm_clr", n_modalities=n_modalities, **{"tau": {"start": 0.1}, **objective}))


def test_the_loss_is_of_the_unit_rows_and_their_instances(make_cell, make_progress):
    method = made(make_cell, tau_soft=0.3, relation="intra", warmup=0, soft_weight=0.4)
    batch = ragged(method.cell)
    got = method(batch, make_progress("pretrain"))
    (a, ids_a), (b, ids_b) = (
        (F.normalize(method.encoders[m](batch.inputs[m]), dim=1), batch.ids[m]) for m in method.modalities
    )
    want = multifold_terms(a, b, ids_a, ids_b, tau=0.1, tau_soft=0.3, relation="intra", soft_weight=0.4)
    for name, term in got.items():
        torch.testing.assert_close(term, want[name])


def test_three_modalities_are_summed_over_pairs(make_cell, make_progress):
    method = made(make_cell, 3, warmup=0)
    batch = ragged(method.cell)
    z = {m: row[0] for m, row in method.observations(batch).items()}
    want = multifold_pairs_terms(z, dict(batch.ids), tau=0.1, tau_soft=0.2)
    torch.testing.assert_close(method(batch, make_progress("pretrain"))["loss"], want["loss"])


def test_the_soft_weight_rises_over_the_warm_up(make_cell):
    method = made(make_cell, warmup=4, soft_weight=0.8)
    assert [method.soft_weight(e) for e in range(6)] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 0.8])
    assert made(make_cell, warmup=0, soft_weight=0.8).soft_weight(0) == 0.8


def test_a_learned_temperature_has_a_gradient_and_a_fixed_one_is_no_parameter(make_cell, make_progress):
    learned = made(make_cell, tau={"start": 0.2, "learned": True})
    learned(ragged(learned.cell), make_progress("pretrain"))["loss"].backward()
    assert learned.tau().item() == pytest.approx(0.2)
    assert learned.tau.log_scale.grad.abs() > 0
    with torch.no_grad():
        learned.tau.log_scale += 10
    assert learned.tau().item() == pytest.approx(0.01)
    assert not any("tau" in name for name, _ in made(make_cell).named_parameters())


def test_a_momentum_teacher_follows_and_makes_the_targets(make_cell, make_progress):
    method = made(make_cell, teacher="ema", teacher_decay=0.9, warmup=0)
    batch, progress = ragged(method.cell), make_progress("pretrain")
    alone = made(make_cell, warmup=0)
    torch.testing.assert_close(method(batch, progress)["loss"], alone(batch, progress)["loss"])
    with torch.no_grad():
        for p in method.encoders.parameters():
            p += 0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
    before = {k: v.clone() for k, v in method.teacher.state_dict().items()}
    loss = method(batch, progress)["loss"]
    for name, theirs in method.encoders.state_dict().items():
        torch.testing.assert_close(method.teacher.state_dict()[name], 0.9 * before[name] + 0.1 * theirs)
    teacher = {m: row[0] for m, row in method.gathered(batch, progress, method.teacher)[0].items()}
    z = {m: row[0] for m, row in method.observations(batch).items()}
    want = multifold_pairs_terms(z, dict(batch.ids), tau=0.1, tau_soft=0.2, teacher=teacher)["loss"]
    torch.testing.assert_close(loss, want)
    assert not torch.allclose(loss, multifold_pairs_terms(z, dict(batch.ids), tau=0.1, tau_soft=0.2)["loss"])
    assert not any(name.startswith("teacher") for name, _ in method.named_parameters())


def norm_of_gradient(method, batch, progress):
    method.zero_grad()
    method(batch, progress)["loss"].backward()
    return sum(p.grad.norm() for p in method.parameters())


def test_soft_targets_of_one_row_each_at_equal_temperatures_are_the_predictions(make_cell, make_batch, make_progress):
    """The means of block are then single rows, so that the soft part alone has nothing to teach."""
    soft = {"soft_weight": 1.0, "warmup": 0, "tau": {"start": 0.2}}
    method = made(make_cell, tau_soft=0.2, **soft)
    assert norm_of_gradient(method, make_batch(method.cell), make_progress("pretrain")) < 1e-5
    assert norm_of_gradient(method, ragged(method.cell), make_progress("pretrain")) > 0.01


def test_the_soft_part_alone_trains_on_several_observations(make_cell, make_progress):
    """Towards its own means, so that what falls is the distance to the targets and not their entropy."""
    method = made(make_cell, tau={"start": 0.2}, tau_soft=0.1, soft_weight=1.0, warmup=0)
    batch, progress = ragged(method.cell), make_progress("pretrain")
    optimizer = torch.optim.Adam(method.parameters(), lr=5e-3)
    gaps = []
    for _ in range(15):
        optimizer.zero_grad()
        terms = method(batch, progress)
        terms["loss"].backward()
        optimizer.step()
        gaps.append(terms["gap"].item())
    assert gaps[-1] < 0.8 * gaps[0]


def test_a_teacher_under_zero_3_is_refused(make_cell):
    cell = make_cell("mxm_clr", teacher="ema")
    cell = cell.model_copy(update={"engine": cell.engine.model_copy(update={"zero_stage": 3})})
    with pytest.raises(ConfigError, match="teacher: ema needs all weights on every rank"):
        build_method(cell)


def test_rows_of_two_ranks_give_the_loss_of_one(make_cell, make_progress):
    """Instances and rows of other ranks come by gathering; here from a second share computed beside the first."""
    method = made(make_cell, warmup=0)
    batch = ragged(method.cell)
    cut = {"a": 3, "b": 3}
    names = list(method.modalities)
    cuts = dict(zip(names, cut.values(), strict=True))
    shares = [
        Batch(
            {m: x[:c] if first else x[c:] for (m, x), c in zip(batch.inputs.items(), cuts.values(), strict=True)},
            batch.labels[:2] if first else batch.labels[2:],
            {m: i[:c] if first else i[c:] for (m, i), c in zip(batch.ids.items(), cuts.values(), strict=True)},
        )
        for first in (True, False)
    ]
    others = iter([part for rows in method.observations(shares[1]).values() for part in rows])
    progress = make_progress("pretrain")
    gathered = type(progress)(
        progress.stage, 0, 10, progress.generator, gather=lambda x: torch.cat([x, next(others)]), rows=slice(0, 2)
    )
    torch.testing.assert_close(method(shares[0], gathered)["loss"], method(batch, progress)["loss"])


def test_embeddings_are_of_instances_in_the_order_of_their_ids(make_cell):
    method = made(make_cell)
    batch = ragged(method.cell)
    z = method.embed(batch)
    assert z.shape == (3, 2 * method.cell.model.width)
    rows, ids = method.observations(batch)[method.modalities[0]]
    torch.testing.assert_close(z[0, : rows.shape[1]], rows[ids == 2].mean(0))
    torch.testing.assert_close(z[2, : rows.shape[1]], rows[ids == 9].mean(0))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"soft_weight": 1.5}, "above 1, the most for combine: convex"),
        ({"relation": "blok"}, "relation"),
        ({"relation": "pair", "tau": {"start": 0.3}, "tau_soft": 0.3}, "tau_soft: 0.3 is tau too.*a momentum teacher"),
    ],
)
def test_values_that_mean_nothing_are_refused(change, says):
    with pytest.raises(ValueError, match=says):
        MXMCLRObjective.model_validate(change)
