"""A modality that rows lack, in every method and variant: what it changes, and what it must never change."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmcontrast.errors import TrainingError
from mmcontrast.losses.pairwise import info_nce
from mmcontrast.methods.base import Batch, Presence, build_method
from mmcontrast.methods.tuple_infonce.negatives import check_disturbable, lenders

N = 12
# the first modality has every row; the others are lacking in turn
LACKING = [(1, (0, 5, 6, 11)), (2, (1, 2, 8, 9))]


@pytest.fixture
def cell(formed, make_cell):
    return make_cell(*formed)


@pytest.fixture
def built(cell):
    def build():
        torch.manual_seed(0)
        return build_method(cell)

    return build


def moments(cell):
    return [(stage, epoch) for stage in cell.stages for epoch in (0, 9)]


def step(method, batch, progress):
    """Terms and gradients of one step, with the gradients cleared."""
    method.zero_grad()
    terms = method(batch, progress)
    terms["loss"].backward()
    return terms, {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


def outputs(method, batch):
    method.eval()
    with torch.no_grad():
        return {**method.embeddings(batch), "logits": method.logits(batch)}


def test_what_stands_in_an_absent_row_is_never_looked_at(cell, built, make_batch, make_progress, lacking):
    zeros, garbage = (lacking(make_batch(cell), LACKING, x) for x in (0.0, 1e9))
    for stage, epoch in moments(cell):
        method, other = built(), built()
        for seed in range(3):
            terms, gradients = step(method, zeros, make_progress(stage, epoch, seed))
            again, same = step(other, garbage, make_progress(stage, epoch, seed))
            assert all(t.isfinite() and t.dtype == torch.float32 and t.shape == () for t in terms.values())
            assert all(g.isfinite().all() for g in gradients.values())
            assert all(torch.equal(again[name], term) for name, term in terms.items())
            assert all(torch.equal(same[name], g) for name, g in gradients.items())
        method, other = outputs(method, zeros), outputs(other, garbage)
        assert all(z is None or torch.equal(other[name], z) for name, z in method.items())


def test_where_nothing_lacks_it_is_as_if_nothing_could(cell, built, make_batch, make_progress, lacking):
    plain = make_batch(cell)
    whole = lacking(plain, [(1, ()), (2, ())])
    for stage, epoch in moments(cell):
        spec = cell.objective
        if cell.method == "m3col" and (spec.get("pairing") == "all" or spec.get("compat", {}).get("both_sides_mixed")):
            continue  # a modality is then mixed for several pairs, each of which draws for itself
        terms = built()(plain, make_progress(stage, epoch))
        again = built()(whole, make_progress(stage, epoch))
        shares = {name: again.pop(name) for name in list(again) if name.startswith("have_")}
        assert len(shares) == 5
        assert all(share == 1 for share in shares.values())
        torch.testing.assert_close(again, terms)
    torch.testing.assert_close(outputs(built(), whole), outputs(built(), plain))


@pytest.mark.parametrize("left", [0, 1])
def test_batches_in_which_hardly_a_row_has_a_modality(cell, built, make_batch, make_progress, left, lacking):
    batch = lacking(make_batch(cell), [(1, range(N - left)), (2, range(N - left))])
    for stage, epoch in moments(cell):
        method = built()
        for seed in range(3):
            terms, gradients = step(method, batch, make_progress(stage, epoch, seed))
            assert terms["loss"].isfinite()
            assert all(g.isfinite().all() for g in gradients.values())
    assert all(z is None or z.isfinite().all() for z in outputs(method, batch).values())


def test_the_order_of_the_rows_changes_nothing_that_draws_nothing(cell, built, make_batch, make_progress, lacking):
    batch = lacking(make_batch(cell), LACKING)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(3))
    shuffled = Batch(
        {m: x[order] for m, x in batch.inputs.items()},
        batch.labels[order],
        present={m: has[order] for m, has in batch.present.items()},
    )
    for stage, epoch in moments(cell):
        terms, redrawn = (built()(batch, make_progress(stage, epoch, seed)) for seed in (0, 1))
        other = built()(shuffled, make_progress(stage, epoch, 0))
        for name, term in terms.items():
            if name in redrawn and torch.equal(term, redrawn[name]):
                torch.testing.assert_close(other[name], term, msg=f"{stage}, epoch {epoch}: {name}")
    z, shuffled_z = outputs(built(), batch), outputs(built(), shuffled)
    torch.testing.assert_close(shuffled_z, {k: v if v is None else v[order] for k, v in z.items()})


def test_steps_lower_the_loss(formed, cell, built, make_batch, make_progress, lacking):
    if formed == ("mxm_clr", "soft_only"):
        pytest.skip("has no gradient on paired data")
    batch = lacking(make_batch(cell), LACKING)
    stage, epoch = moments(cell)[0]

    def falls(lr):
        method = built()
        optimizer = torch.optim.Adam(method.parameters(), lr=lr)
        losses = []
        for k in range(24):
            loss = step(method, batch, make_progress(stage, epoch, k % 4))[0]["loss"]
            optimizer.step()
            losses.append(loss.item())
        return sum(losses[-4:]) < sum(losses[:4])

    assert falls(5e-3) or falls(1e-3)


def test_what_is_left_without_a_modality_is_what_rows_that_lack_it_have(cell, built, make_batch, lacking):
    method, batch = built(), make_batch(cell)
    whole = outputs(method, batch)
    if without := [m for m in cell.modalities if f"without_{m}" in whole]:
        assert without == list(cell.modalities)
    elif cell.method == "disentangled_ssl" or (cell.model.fusion and cell.model.fusion.kind == "linear"):
        pytest.skip("has nothing to put in a modality's place")
    else:
        assert "encoders" not in whole
    for k, m in enumerate(without):
        assert not torch.equal(whole[f"without_{m}"], whole[""])
        torch.testing.assert_close(whole[f"without_{m}"], outputs(method, lacking(batch, [(k, range(N))]))[""])


def test_shares_are_logged(make_cell, make_batch, make_progress, lacking):
    cell = make_cell("cross")
    terms = build_method(cell)(lacking(make_batch(cell), LACKING), make_progress("pretrain"))
    a, b, c = cell.modalities
    expected = {f"have_{b}": 8, f"have_{c}": 8, f"have_{a}_{b}": 8, f"have_{a}_{c}": 8, f"have_{b}_{c}": 4}
    assert {k: v.item() * N for k, v in terms.items() if k.startswith("have_")} == pytest.approx(expected)


def test_a_pair_is_the_loss_of_the_rows_that_have_both(make_cell, make_batch, make_progress, lacking):
    cell = make_cell("cross", n_modalities=2, head="none", cross_loss="info_nce")
    method, batch = build_method(cell), lacking(make_batch(cell), LACKING[:1])
    rows = Presence.of(batch).rows(*cell.modalities)
    a, b = (method.encoders[m](batch.inputs[m][rows]) for m in cell.modalities)
    loss = method(batch, make_progress("pretrain"))["cross"]
    torch.testing.assert_close(loss, 8 / N * info_nce(a, b, method.objective.tau))


def test_fusion_drops_the_tokens_of_what_a_row_lacks(make_cell, make_batch, lacking):
    cell = make_cell("comm")
    method = build_method(cell).eval()
    batch = lacking(make_batch(cell), LACKING)
    z = method.embed(batch)
    for i in (0, 1, 3):
        has = [m for m in cell.modalities if m not in batch.present or batch.present[m][i]]
        tokens = [method.converters[m](method.encoders[m](batch.inputs[m][i : i + 1])) for m in has]
        torch.testing.assert_close(z[i : i + 1], method.fusion(tokens)[0])


def test_late_fusion_averages_what_a_row_has(make_cell, make_batch, lacking):
    cell = make_cell("unimodal")
    method, batch = build_method(cell), lacking(make_batch(cell), LACKING)
    probs = {m: method.heads[m](method.encoders[m](batch.inputs[m])).softmax(-1) for m in cell.modalities}
    a, b, c = cell.modalities
    got = method.logits(batch).exp()
    torch.testing.assert_close(got[0], (probs[a] + probs[c])[0] / 2)
    torch.testing.assert_close(got[3], (probs[a] + probs[b] + probs[c])[3] / 3)
    torch.testing.assert_close(got[1], (probs[a] + probs[b])[1] / 2)


def test_a_single_modality_learns_from_its_rows_and_scores_others_evenly(make_cell, make_batch, make_progress, lacking):
    cell = make_cell("unimodal", "mirna", n_modalities=3)
    seen = cell.objective["modality"]
    k = list(cell.modalities).index(seen)
    method, batch = build_method(cell), lacking(make_batch(cell), [(k, (0, 5))])
    has = batch.present[seen]
    scores = method.heads[seen](method.encoders[seen](batch.inputs[seen][has]))
    loss = method(batch, make_progress())["loss"]
    torch.testing.assert_close(loss, 10 / N * F.cross_entropy(scores, batch.labels[has]))
    assert torch.equal(method.logits(batch)[~has], torch.zeros(2, len(cell.classes)))


def test_a_mixture_has_what_both_of_its_rows_have():
    has = torch.tensor([True, True, False, True])
    mixed = Presence({"a": has}, {"a": has}).mixed(torch.tensor([1, 2, 3, 0]), slice(1, 3))
    assert mixed.whole["a"].tolist() == [True, False, False, True]
    assert mixed.local["a"].tolist() == [False, False]


def test_rows_that_lack_a_modality_neither_lend_nor_take_it():
    has = torch.tensor([1, 0, 1, 1, 0, 1]).bool()
    for seed in range(20):
        sources = lenders(6, torch.Generator().manual_seed(seed), None, has)
        assert sources[~has].tolist() == [1, 4]
        assert sorted(sources[has].tolist()) == [0, 2, 3, 5]
        assert (sources[has] != torch.arange(6)[has]).all()
    g = torch.Generator()
    assert lenders(3, g, None, torch.tensor([False, True, False])) is None
    assert lenders(3, g, torch.tensor([7, 7, 1]), torch.tensor([True, True, False])) is None


def test_sequences_that_are_all_alike_cannot_be_disturbed():
    x = torch.tensor([[[2.0], [torch.nan]]]).expand(3, 2, 1)
    with pytest.raises(TrainingError, match="modality 'b' is the same in all 3 training rows"):
        check_disturbable({"a": torch.rand(3, 2), "b": x})
