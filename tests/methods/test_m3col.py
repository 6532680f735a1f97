"""M3CoL against vectors (NumPy, float64, from the formulas), loops in plain Python, and its invariants."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mmcontrast.config import Modality
from mmcontrast.errors import ContrastError
from mmcontrast.losses.mixing import apply_mix, mix_targets, sample_mix
from mmcontrast.losses.pairwise import info_nce
from mmcontrast.losses.rows import modality_pairs
from mmcontrast.methods.base import Batch, build_method
from mmcontrast.methods.m3col import method as m3col
from mmcontrast.methods.m3col.loss import m3co, m3co_pair, multisclip
from mmcontrast.methods.m3col.method import uses_m3co
from tests.grids import grid_of


def double(rows):
    return torch.tensor(rows, dtype=torch.float64)


A = double([[1.0, 0.0, 0.5], [0.2, 1.0, -0.3], [-0.4, 0.6, 1.0], [0.9, -0.7, 0.1]])
B = double([[0.8, 0.1, 0.4], [0.0, 0.9, 0.2], [-0.5, 0.3, 0.7], [0.6, -1.0, 0.0]])
C = double([[0.3, -0.2, 1.0], [0.7, 0.7, 0.0], [-1.0, 0.4, 0.2], [0.1, -0.9, 0.5]])
Z = {"a": A, "b": B, "c": C}
DRAWS = {
    "a": (double([0.7, 1.0, 0.25, 0.9]), torch.tensor([2, 0, 3, 1])),
    "b": (double([0.4, 0.6, 1.0, 0.8]), torch.tensor([1, 3, 0, 2])),
    "c": (double([0.5, 0.9, 0.1, 1.0]), torch.tensor([3, 2, 1, 0])),
}
MIXED = {m: apply_mix(z, *DRAWS[m]) for m, z in Z.items()}
TARGETS = {m: mix_targets(*draw) for m, draw in DRAWS.items()}
FIXED = (double([0.7, 0.35, 0.25, 1.0]), torch.tensor([2, 1, 0, 3]))
LABELS = torch.tensor([0, 2, 1, 0])


def near(value: float) -> object:
    return pytest.approx(value, abs=1e-8)


@pytest.mark.parametrize(
    ("mixed", "clean", "targets", "tau", "expected"),
    [
        (MIXED["a"], B, TARGETS["a"], 0.1, 1.3793126522),
        (MIXED["b"], A, TARGETS["b"], 0.1, 2.0126791323),
        (MIXED["a"], B, TARGETS["a"], 0.07, 1.8293747451),
        (MIXED["a"], B, TARGETS["a"], 1.0, 1.0264177974),
        (A, B, torch.eye(4, dtype=torch.float64), 0.1, 0.0363235622),
        (MIXED["a"], MIXED["b"], TARGETS["a"], 0.1, 2.1041052104),
        (MIXED["b"], MIXED["a"], TARGETS["b"], 0.1, 3.2649729274),
        (apply_mix(A, *FIXED), B, mix_targets(*FIXED), 0.1, 0.6827981721),
        (apply_mix(A, *FIXED), B, mix_targets(*FIXED, overwritten=True), 0.1, 0.6730881778),
    ],
    ids=["a", "b", "tau .07", "tau 1", "lambda 1", "aliased a", "aliased b", "fixed points", "overwritten"],
)
def test_pair_vectors(mixed, clean, targets, tau, expected):
    assert m3co_pair(mixed, clean, targets, tau).item() == near(expected)


def test_pair_vectors_hold_in_float32():
    value = m3co_pair(MIXED["a"].float(), B.float(), TARGETS["a"], 0.1)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(1.3793126522, abs=1e-5)


@pytest.mark.parametrize(
    ("modalities", "pairing", "expected"),
    [("ab", "ring", 3.3919917845), ("abc", "ring", 4.3580644164), ("abc", "all", 9.1988024596)],
)
def test_m3co_vectors(modalities, pairing, expected):
    assert m3co(MIXED, Z, TARGETS, modality_pairs(modalities, pairing), 0.1).item() == near(expected)


@pytest.mark.parametrize(("modalities", "expected"), [("ab", 0.3636243274), ("abc", 0.9187722280)])
def test_multisclip_vectors(modalities, expected):
    assert multisclip(Z, modality_pairs(modalities, "ring"), 0.125).item() == near(expected)


def test_gradient_vectors():
    a, b = A.clone().requires_grad_(), B.clone().requires_grad_()
    m3co_pair(apply_mix(a, *DRAWS["a"]), b, TARGETS["a"], 0.1).backward()
    assert a.grad[0, 0].item() == near(0.0810428589)
    assert b.grad[2, 1].item() == near(0.3084908489)


def cosine(x, y):
    return sum(p * q for p, q in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y)


def slow_m3co_pair(x, lambdas, partners, y, tau):
    """Mixture i draws lambda_i of its attention from y_i and the rest from its partner's; and the same seen from y."""
    n = len(x)
    mixed = [
        [w * p + (1 - w) * q for p, q in zip(x[i], x[k], strict=True)]
        for i, (w, k) in enumerate(zip(lambdas, partners, strict=True))
    ]
    loss = 0.0
    for i in range(n):
        row = sum(math.exp(cosine(mixed[i], y[j]) / tau) for j in range(n))
        for j, weight in ((i, lambdas[i]), (partners[i], 1 - lambdas[i])):
            column = sum(math.exp(cosine(mixed[k], y[j]) / tau) for k in range(n))
            score = cosine(mixed[i], y[j]) / tau
            loss -= weight * (score - math.log(row)) + weight * (score - math.log(column))
    return loss / (2 * n)


@pytest.mark.parametrize("n", [2, 3, 8])
@pytest.mark.parametrize("d", [2, 5])
@pytest.mark.parametrize("tau", [0.07, 0.1, 1.0])
def test_pair_equals_the_loop(n, d, tau):
    g = torch.Generator().manual_seed(n * d)
    x, y = torch.randn(2, n, d, dtype=torch.float64, generator=g)
    draw = sample_mix(n, 0.5, 0.8, g)
    expected = slow_m3co_pair(x.tolist(), draw[0].tolist(), draw[1].tolist(), y.tolist(), tau)
    assert m3co_pair(apply_mix(x, *draw), y, mix_targets(*draw), tau).item() == near(expected)


def random_pair(n=7, d=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, n, d, dtype=torch.float64, generator=g)
    return x, y, sample_mix(n, 0.5, 0.7, g)


@pytest.mark.parametrize("n", [2, 3, 11])
def test_embeddings_all_alike_give_log_of_the_batch(n):
    row = double([0.3, -2.0, 1.0]).expand(n, 3)
    lambda_B, perm_B = sample_mix(n, 0.15, 1.0, torch.Generator().manual_seed(n))
    assert m3co_pair(row, row, mix_targets(lambda_B, perm_B), 0.1).item() == pytest.approx(math.log(n), abs=1e-12)


def test_without_mixing_it_is_the_symmetric_info_nce():
    x, y, _ = random_pair()
    assert m3co_pair(x, y, torch.eye(7), 0.1).item() == pytest.approx(info_nce(x, y, 0.1).item(), abs=1e-12)


def test_scaling_rows_after_mixing_changes_nothing_and_before_mixing_does():
    x, y, draw = random_pair()
    scale = torch.linspace(0.2, 9, 7, dtype=torch.float64)[:, None]
    loss = m3co_pair(apply_mix(x, *draw), y, mix_targets(*draw), 0.1)
    torch.testing.assert_close(m3co_pair(scale * apply_mix(x, *draw), y / scale, mix_targets(*draw), 0.1), loss)
    before = m3co_pair(apply_mix(scale * x, *draw), y, mix_targets(*draw), 0.1)
    assert before.item() != pytest.approx(loss.item(), rel=1e-3)


def test_relabelling_the_batch_with_its_draws_changes_nothing():
    x, y, (lambda_B, perm_B) = random_pair()
    order = torch.tensor([4, 2, 6, 0, 1, 3, 5])
    renamed = (lambda_B[order], order.argsort()[perm_B[order]])
    loss = m3co_pair(apply_mix(x, lambda_B, perm_B), y, mix_targets(lambda_B, perm_B), 0.1)
    other = m3co_pair(apply_mix(x[order], *renamed), y[order], mix_targets(*renamed), 0.1)
    torch.testing.assert_close(other, loss)


def test_half_precision_and_autocast_are_computed_in_float32():
    x, y, draw = random_pair()
    x, y, targets = x.bfloat16(), y.bfloat16(), mix_targets(*draw)
    expected = m3co_pair(x.float(), y.float(), targets, 0.1)
    assert torch.equal(m3co_pair(x, y, targets, 0.1), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(m3co_pair(x.float(), y.float(), targets, 0.1), expected)


def test_gradients():
    x, y, draw = random_pair(4, 3)
    targets = mix_targets(*draw)
    inputs = (x.requires_grad_(), y.requires_grad_())
    assert torch.autograd.gradcheck(lambda x, y: m3co_pair(apply_mix(x, *draw), y, targets, 0.5), inputs)


@pytest.mark.parametrize(
    ("rows", "tau", "what"), [((4, 5), 0.1, "one shape"), ((1, 1), 0.1, "nothing to contrast"), ((4, 4), 0, "above 0")]
)
def test_what_cannot_be_contrasted_is_refused(rows, tau, what):
    with pytest.raises(ContrastError, match=what):
        m3co_pair(torch.ones(rows[0], 3), torch.ones(rows[1], 3), torch.eye(rows[0]), tau)


def test_targets_of_another_batch_are_refused():
    with pytest.raises(ContrastError, match="one size"):
        m3co_pair(A, B, torch.eye(3), 0.1)


@pytest.mark.parametrize(("epochs", "switch"), [(25, 8), (26, 8), (50, 16), (51, 16), (500, 165)])
def test_the_papers_schedule_switches_where_the_code_does(epochs, switch):
    assert [uses_m3co(e, epochs, 0.33) for e in (0, switch - 1, switch, epochs - 1)] == [True, True, False, False]


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, False), (1.0, True)])
def test_the_ends_of_the_schedule_use_one_loss_throughout(fraction, expected):
    assert {uses_m3co(e, 30, fraction) for e in range(30)} == {expected}


@pytest.mark.parametrize(("dataset", "parameters"), [("rosmap", 9_618_008), ("mogonet_brca", 7_253_780)])
def test_parameter_counts_of_the_paper(dataset, parameters):
    method = build_method(grid_of("paper").cell(dataset, "m3col"))
    assert sum(p.numel() for p in method.parameters()) == parameters


class AddHalves(nn.Module):
    """A stand-in for the fusion head whose scores are the sum of the embeddings."""

    def forward(self, x):
        return x.unflatten(-1, (-1, 3)).sum(dim=-2)


@pytest.fixture
def bare(monkeypatch, make_cell):
    """bare(n_modalities, **objective): M3CoL with identities for networks, on Z, with DRAWS for its draws."""

    def build(n_modalities=2, **objective):
        names = list(Z)[:n_modalities]
        cell = make_cell("m3col", **objective)
        cell = cell.model_copy(update={"modalities": {m: Modality(kind="vector", shape=[3]) for m in names}})
        method = build_method(cell)
        method.encoders = nn.ModuleDict({m: nn.Identity() for m in names})
        method.unimodal_heads = nn.ModuleDict({m: nn.Identity() for m in method.unimodal_heads})
        method.fusion_head = AddHalves()
        draws = iter(DRAWS.values())
        monkeypatch.setattr(m3col, "sample_mix", lambda *_: next(draws))
        return method, Batch({m: Z[m] for m in names}, LABELS)

    return build


def test_total_vector(bare, make_progress):
    method, batch = bare()
    terms = method(batch, make_progress("finetune", epoch=0))
    assert terms["fusion"].item() == near(1.0532661258)
    assert terms["unimodal"].item() == near(1.0189777781 + 0.9389088329)
    assert terms["m3co"].item() == near(3.3919917845)
    assert terms["loss"].item() == near(3.3503519153)


@pytest.mark.parametrize("space", ["embedding", "input"])
@pytest.mark.parametrize(
    ("n_modalities", "objective", "expected"),
    [
        (2, {}, 3.3919917845),
        (3, {}, 4.3580644164),
        (3, {"pairing": "all"}, 9.1988024596),
        (2, {"compat": {"both_sides_mixed": True}}, 2.1041052104 + 3.2649729274),
    ],
    ids=["two", "ring", "all", "both sides mixed"],
)
def test_the_class_wires_m3co(bare, make_progress, space, n_modalities, objective, expected):
    method, batch = bare(n_modalities, mix_space=space, **objective)
    assert method(batch, make_progress("pretrain", epoch=9))["loss"].item() == near(expected)


def test_the_class_overwrites_targets_where_asked(bare, make_progress, monkeypatch):
    method, batch = bare(compat={"overwrite_targets": True})
    monkeypatch.setattr(m3col, "sample_mix", lambda *_: FIXED)
    other_way = m3co_pair(apply_mix(B, *FIXED), A, mix_targets(*FIXED, overwritten=True), 0.1).item()
    assert method(batch, make_progress("pretrain"))["loss"].item() == near(0.6730881778 + other_way)


@pytest.mark.parametrize(("n_modalities", "expected"), [(2, 0.3636243274), (3, 0.9187722280)])
def test_the_class_turns_to_multisclip_after_the_switch(bare, make_progress, n_modalities, expected):
    method, batch = bare(n_modalities)
    assert "multisclip" not in method(batch, make_progress("finetune", epoch=2))
    assert method(batch, make_progress("finetune", epoch=3))["multisclip"].item() == near(expected)


def test_each_modality_has_its_own_draw(make_cell, make_batch, make_progress, monkeypatch):
    drawn = []
    monkeypatch.setattr(m3col, "sample_mix", lambda *a: drawn.append(sample_mix(*a)) or drawn[-1])
    cell = make_cell("m3col")
    build_method(cell)(make_batch(cell), make_progress())
    assert len({tuple(perm.tolist()) for _, perm in drawn}) == 3
    assert len({tuple(weights.tolist()) for weights, _ in drawn}) == 3


def test_without_mixing_it_is_concatenation_with_info_nce(make_cell, make_batch, make_progress):
    ours = make_cell("m3col", p_select=0.0, schedule_fraction=1.0)
    baseline = make_cell("concat", "clip")
    losses = []
    for cell in (ours, baseline):
        torch.manual_seed(0)
        losses.append(build_method(cell)(make_batch(cell), make_progress())["loss"])
    torch.testing.assert_close(*losses)


def test_mixing_inputs_differs_from_mixing_embeddings(make_cell, make_batch, make_progress):
    losses = []
    for space in ("input", "embedding"):
        cell = make_cell("m3col", mix_space=space)
        torch.manual_seed(0)
        losses.append(build_method(cell)(make_batch(cell), make_progress())["m3co"].item())
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


def test_one_modality_is_refused(make_cell):
    with pytest.raises(ContrastError, match="at least two"):
        build_method(make_cell("m3col", n_modalities=1))
