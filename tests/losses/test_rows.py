"""Losses of rows that may lack a modality: against loops in plain Python, the rule of their weight, and gradients."""

from __future__ import annotations

import math

import pytest
import torch

from mmcontrast.losses.pairwise import cmc, info_nce, nt_xent, paired_info_nce, self_contrast
from mmcontrast.losses.rows import nothing, over_rows, shared_rows
from mmcontrast.losses.supervised import supcon_rows
from mmcontrast.methods.comm.loss import comm_paper_terms, comm_terms, directed_info_nce
from mmcontrast.methods.m3col.loss import multisclip, multisclip_pair
from mmcontrast.methods.tuple_infonce.loss import every_own_row_terms, tuple_info_nce, tuple_info_nce_terms

B, D, TAU = 7, 3, 0.3
HAS = {"a": torch.tensor([1, 1, 0, 1, 1, 0, 1]).bool(), "b": torch.tensor([1, 0, 1, 1, 1, 1, 1]).bool()}


def rows(count: int = 1, seed: int = 0) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(B, D, dtype=torch.float64, generator=g) for _ in range(count)]


def both(*names: str) -> list[int]:
    return [i for i in range(B) if all(bool(HAS[m][i]) for m in names)]


def unit(z: torch.Tensor) -> torch.Tensor:
    return z / z.norm(dim=-1, keepdim=True)


def test_a_term_counts_the_share_of_its_rows() -> None:
    x = rows()[0]
    assert over_rows(lambda z: z.mean(), HAS["a"], x).item() == pytest.approx(
        sum(x[i].sum().item() for i in both("a")) / (B * D)
    )
    assert over_rows(lambda z: z.mean(), None, x) == x.mean()
    assert torch.equal(over_rows(lambda z: z.mean(), torch.ones(B, dtype=torch.bool), x), x.mean())


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_rows_are_a_zero_with_a_gradient(n: int) -> None:
    x = rows()[0].requires_grad_()
    few = torch.arange(B) < n
    loss = over_rows(lambda z: pytest.fail("called"), few, x, torch.arange(B))
    loss.backward()
    assert loss == 0
    assert torch.equal(x.grad, torch.zeros_like(x))
    assert nothing(x.bfloat16()).dtype == torch.float32


def test_rows_that_are_shared() -> None:
    assert shared_rows(None, None) is None
    assert torch.equal(shared_rows(None, HAS["a"]), HAS["a"])
    assert shared_rows(HAS["a"], HAS["b"]).nonzero().flatten().tolist() == both("a", "b")


def slow_info_nce(a: torch.Tensor, b: torch.Tensor, index: list[int]) -> float:
    """Sum over rows and both directions, as if the other rows were not there, over all B."""
    total = 0.0
    for one, other in ((a, b), (b, a)):
        for i in index:
            scores = {j: (unit(one)[i] @ unit(other)[j]).item() / TAU for j in index}
            total += math.log(sum(math.exp(s) for s in scores.values())) - scores[i]
    return total / (2 * B)


def test_pairs_against_the_loop() -> None:
    a, b, c = rows(3)
    present = [HAS["a"], HAS["b"], None]
    pairs = [(a, b, ["a", "b"]), (a, c, ["a"]), (b, c, ["b"])]
    expected = sum(slow_info_nce(x, y, both(*names)) for x, y, names in pairs) / 3
    assert cmc([a, b, c], TAU, info_nce, present).item() == pytest.approx(expected)
    directed = paired_info_nce({"a": a, "b": b, "c": c}, [("a", "b"), ("c", "a")], TAU, HAS)
    assert directed.item() == pytest.approx(slow_info_nce(a, b, both("a", "b")) + slow_info_nce(a, c, both("a")))


def test_the_share_times_the_loss_of_the_rows_alone() -> None:
    a, b, c, d = rows(4)
    i, j, ij = (torch.tensor(both(*names)) for names in (["a"], ["b"], ["a", "b"]))
    own = (len(i) * nt_xent(a[i], c[i], TAU) + len(j) * nt_xent(b[j], d[j], TAU)) / (2 * B)
    torch.testing.assert_close(self_contrast([a, b], [c, d], TAU, [HAS["a"], HAS["b"]]), own)
    soft = len(ij) / B * multisclip_pair(a[ij], b[ij], TAU)
    torch.testing.assert_close(multisclip({"a": a, "b": b}, [("a", "b")], TAU, False, HAS), soft)


@pytest.mark.parametrize("estimator", ["nt_xent", "info_nce"])
def test_comm_terms(estimator: str) -> None:
    loss = {"nt_xent": nt_xent, "info_nce": directed_info_nce}[estimator]
    a, b, f, a2, b2, g = rows(6)
    i = torch.tensor(both("a"))
    first = len(i) / B * (loss(a[i], g[i], TAU) + loss(a2[i], f[i], TAU)) / 2
    second = (loss(b, g, TAU) + loss(b2, f, TAU)) / 2
    fused = (loss(f, g, TAU) + loss(g, f, TAU)) / 2
    out = comm_terms([a, b, f], [a2, b2, g], TAU, estimator=estimator, present=[HAS["a"], None])
    torch.testing.assert_close(out.terms, torch.stack([first, second, (loss(f, g, TAU) + loss(g, f, TAU)) / 2]))
    torch.testing.assert_close(out.loss, (first + second + fused) / 3)


def test_comm_paper_terms() -> None:
    a, b, f, g = rows(4)
    i = torch.tensor(both("a"))
    loss = directed_info_nce
    first = len(i) / B * (loss(a[i], f[i], TAU) + loss(a[i], g[i], TAU)) / 2
    second = (loss(b, f, TAU) + loss(b, g, TAU)) / 2
    out = comm_paper_terms(f, g, [a, b], TAU, present=[HAS["a"], None])
    torch.testing.assert_close(out.terms, torch.stack([first, second, loss(f, g, TAU)]))


def test_supcon_of_rows_that_may_stand_alone_against_the_loop() -> None:
    z = unit(rows()[0])
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 3])  # 2 and 3 stand alone: negatives of the others
    total = 0.0
    for i in range(B):
        positives = [p for p in range(B) if p != i and labels[p] == labels[i]]
        log_sum = math.log(sum(math.exp((z[i] @ z[k]).item() / TAU) for k in range(B) if k != i))
        total += sum(log_sum - (z[i] @ z[p]).item() / TAU for p in positives) / max(len(positives), 1)
    assert supcon_rows(z, labels, TAU, total=10).item() == pytest.approx(total / 10)
    alone = rows()[0].requires_grad_()
    supcon_rows(alone, torch.arange(B), TAU, total=10).backward()
    assert torch.equal(alone.grad, torch.zeros_like(alone))


@pytest.mark.parametrize("kind", ["all", "own", "others"])
def test_a_row_that_lacks_a_modality_has_no_tuple_disturbed_in_it(kind: str) -> None:
    anchor, positive, changed_a, changed_b = (unit(z) for z in rows(4))
    weights, got = [0.5, 2.0], 0.0
    for i in range(B):
        others = [j for j in range(B) if j != i]
        own = math.exp((anchor[i] @ positive[i]).item() / TAU)
        mass = own + sum(math.exp((anchor[i] @ positive[j]).item() / TAU) for j in others)
        for weight, changed, has in zip(weights, (changed_a, changed_b), (HAS["a"], None), strict=True):
            met = {"all": range(B), "own": [i], "others": others}[kind]
            having = [j for j in met if has is None or has[j]]
            mass += weight * sum(math.exp((anchor[i] @ changed[j]).item() / TAU) for j in having)
        got += (math.log(mass) - math.log(own)) / B
    options = {"rows": kind, "present": [HAS["a"], None]}
    out = tuple_info_nce_terms(anchor, positive, [changed_a, changed_b], weights, TAU, **options)
    assert out.loss.item() == pytest.approx(got)
    similarity = sum((anchor[i] @ changed_a[i]).item() for i in both("a")) / len(both("a"))
    assert out.stats["own_similarity_0"].item() == pytest.approx(similarity)
    garbage = torch.where(HAS["a"][:, None], changed_a, 1e6)
    assert torch.equal(tuple_info_nce(anchor, positive, [garbage, changed_b], weights, TAU, **options), out.loss)


def test_every_own_row_leaves_out_rows_that_lack_the_modality() -> None:
    anchor, u, v = rows(3)
    anchor, fused = unit(anchor), u + v
    expected = 0.0
    for i in range(B):
        scores = [(anchor[i] @ unit(fused[j])).item() / TAU for j in range(B)]
        mass = sum(map(math.exp, scores))
        if HAS["a"][i]:
            mass += 0.5 * sum(math.exp((anchor[i] @ unit(v[i] + u[j])).item() / TAU) for j in both("a") if j != i)
        expected += (math.log(mass) - scores[i]) / B
    out = every_own_row_terms(anchor, fused, {"a": u}, [0.5], TAU, present=[HAS["a"]])
    assert out.loss.item() == pytest.approx(expected)


def test_gradients() -> None:
    a, b, c, d = (z.requires_grad_() for z in rows(4))
    has = [HAS["a"], HAS["b"]]
    assert torch.autograd.gradcheck(lambda x, y: cmc([x, y], TAU, nt_xent, has), (a, b))
    assert torch.autograd.gradcheck(lambda *z: self_contrast(z[:2], z[2:], TAU, has), (a, b, c, d))
    assert torch.autograd.gradcheck(lambda x: supcon_rows(x, torch.tensor([0, 1, 0, 2, 1, 0, 3]), TAU, 10), (a,))
    terms = lambda x, y: comm_terms([x, y, c], [y, x, d], TAU, present=[HAS["a"], None]).loss  # noqa: E731
    assert torch.autograd.gradcheck(terms, (a, b))
    blocks = lambda x, y: tuple_info_nce(unit(x), unit(y), [unit(c), unit(d)], [1.0, 2.0], TAU, present=has)  # noqa: E731
    assert torch.autograd.gradcheck(blocks, (a, b))
