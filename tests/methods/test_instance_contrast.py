"""The comparison losses as methods: each gets the rows and instances it is defined on."""

from __future__ import annotations

import pytest
import torch

from mmcontrast.errors import ContrastError, TrainingError
from mmcontrast.losses.pairwise import cloob, cyclic_consistency, info_nce, mil_nce, siglip, weighted_nt_xent
from mmcontrast.losses.supervised import supcon_rows
from mmcontrast.methods.base import Batch, build_method
from mmcontrast.methods.baselines.objectives import InstanceContrastObjective
from tests.methods.test_mxm_clr import ragged


def made(make_cell, loss, **objective):
    torch.manual_seed(0)
    return build_method(make_cell(loss, n_modalities=2, **{"tau": {"start": 0.1}, **objective}))


def pooled(rows):
    return torch.cat([z for z, _ in rows]), torch.cat([ids for _, ids in rows])


SEVERAL = {
    "mil_nce": lambda a, b, i, j: mil_nce(a, b, i, j, tau=0.3),
    "siglip": lambda a, b, i, j: siglip(a, b, i, j, scale=1 / 0.3, bias=-10.0),
    "supcon_instances": lambda a, b, i, j: supcon_rows(*pooled([(a, i), (b, j)]), 0.3),
}
ONE_EACH = {
    "clip": lambda z: info_nce(*z.values(), 0.3),
    "tricolo": lambda z: weighted_nt_xent(z, {"->".join(z): 0.5, "->".join(reversed(z)): 0.5}, tau=0.3),
}


@pytest.mark.parametrize("loss", SEVERAL)
def test_losses_of_several_observations_on_a_ragged_batch(loss, make_cell, make_progress):
    method = made(make_cell, loss, tau={"start": 0.3})
    batch = ragged(method.cell)
    (a, i), (b, j) = method.observations(batch).values()
    torch.testing.assert_close(method(batch, make_progress("pretrain"))["loss"], SEVERAL[loss](a, b, i, j))


@pytest.mark.parametrize("loss", ONE_EACH)
def test_losses_of_one_observation_refuse_several_and_take_pairs(loss, make_cell, make_batch, make_progress):
    method = made(make_cell, loss, tau={"start": 0.3})
    with pytest.raises(TrainingError, match=rf"loss '{loss}' pairs row k .* a batch has 6 of \w+, 5 of"):
        method(ragged(method.cell), make_progress("pretrain"))
    plain = make_batch(method.cell)
    ids = torch.arange(len(plain.labels)).flip(0)
    batch = Batch(plain.inputs, plain.labels, dict.fromkeys(plain.inputs, ids))
    z = {m: rows for m, (rows, _) in method.observations(batch).items()}
    torch.testing.assert_close(method(batch, make_progress("pretrain"))["loss"], ONE_EACH[loss](z))
    swapped = Batch(plain.inputs, plain.labels, dict(zip(plain.inputs, (ids, ids.flip(0)), strict=True)))
    with pytest.raises(TrainingError, match="pairs row k"):
        method(swapped, make_progress("pretrain"))


def test_double_count_and_directions_reach_their_loss(make_cell, make_batch, make_progress):
    method = made(make_cell, "mil_nce", double_count=True)
    batch = ragged(method.cell)
    (a, i), (b, j) = method.observations(batch).values()
    got = method(batch, make_progress("pretrain"))["loss"]
    torch.testing.assert_close(got, mil_nce(a, b, i, j, tau=0.1, double_count=True))

    x, y = make_cell("tricolo", n_modalities=2).modalities
    weights = {f"{x}->{y}": 0.9, f"{y}->{x}": 0.1}
    method = made(make_cell, "tricolo", directions=weights)
    batch = make_batch(method.cell)
    z = {m: rows for m, (rows, _) in method.observations(batch).items()}
    got = method(batch, make_progress("pretrain"))["loss"]
    torch.testing.assert_close(got, weighted_nt_xent(z, weights, tau=0.1))


def test_a_direction_that_does_not_exist_is_refused(make_cell, make_batch, make_progress):
    method = made(make_cell, "tricolo", directions={"text->picture": 1.0})
    with pytest.raises(ContrastError, match="no direction 'text->picture'"):
        method(make_batch(method.cell), make_progress("pretrain"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"loss": "clip", "double_count": True}, "double_count: of loss mil_nce alone"),
        ({"loss": "clip", "directions": {"a->b": 1}}, "directions: of loss tricolo alone"),
        ({"loss": "clap"}, "loss"),
    ],
)
def test_options_of_another_loss_are_refused(change, says):
    with pytest.raises(ValueError, match=says):
        InstanceContrastObjective.model_validate(change)


def test_clip_with_the_terms_of_cyclip_and_on_what_cloob_retrieves(make_cell, make_batch, make_progress):
    for objective, expected in (
        (
            {"cyclic_within": 0.2, "cyclic_across": 0.5},
            lambda a, b: info_nce(a, b, 0.3) + cyclic_consistency(a, b, 0.2, 0.5),
        ),
        ({"hopfield": 4.0}, lambda a, b: cloob(a, b, 0.3, 4.0)),
    ):
        method = made(make_cell, "clip", tau={"start": 0.3}, **objective)
        batch = make_batch(method.cell)
        (a, _), (b, _) = method.observations(batch).values()
        torch.testing.assert_close(method(batch, make_progress("pretrain"))["loss"], expected(a, b))
