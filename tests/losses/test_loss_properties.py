"""Whatever the embeddings are, a loss and its gradients are finite, or the loss says what it cannot take.

B rows, D width. Embeddings: random of any size, all alike, zero in one row or in all, opposite, nearly alike.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mmcontrast.errors import ContrastError
from mmcontrast.losses.disentangled import (
    barlow_twins,
    club_critic_loss,
    decur_loss,
    disentangled_shared_loss,
    disentangled_specific_loss,
    factorcl_terms,
)
from mmcontrast.losses.mixing import apply_mix, mix_targets, sample_mix
from mmcontrast.losses.pairwise import (
    cloob,
    cmc,
    cyclic_consistency,
    info_nce,
    mil_nce,
    nt_xent,
    self_contrast,
    siglip,
    weighted_nt_xent,
)
from mmcontrast.losses.rows import unit_rows as unit
from mmcontrast.losses.supervised import bidirectional_cross_entropy, label_cross_entropy, soft_cross_entropy, supcon
from mmcontrast.losses.tuples import confu_loss, gmc_loss, gram_loss, symile_loss
from mmcontrast.methods.comm.loss import comm_paper_terms, comm_terms, directed_info_nce
from mmcontrast.methods.infmasking.loss import infmasking_loss
from mmcontrast.methods.m3col.loss import multisclip_pair
from mmcontrast.methods.mxm_clr.loss import multifold_terms
from mmcontrast.methods.tuple_infonce.loss import own_row_logits, tuple_info_nce_terms

LARGEST_LOGIT = 1e30


def embeddings(kind: str, n: int, d: int, scale: float, dtype: torch.dtype, seed: int) -> Tensor:
    """(B, D) rows that ask for trouble."""
    generator = torch.Generator().manual_seed(seed)
    z_BD = torch.randn(n, d, generator=generator, dtype=torch.float64)
    if kind == "alike":
        z_BD = z_BD[:1].expand(n, d).clone()
    elif kind == "zero":
        z_BD = torch.zeros(n, d, dtype=torch.float64)
    elif kind == "one zero":
        z_BD[0] = 0
    elif kind == "opposite":
        z_BD = z_BD[:1] * torch.tensor([(-1.0) ** i for i in range(n)], dtype=torch.float64)[:, None]
    elif kind == "nearly alike":
        z_BD = 1 + 1e-7 * z_BD
    return (z_BD * scale).to(dtype)


KINDS = ["random", "alike", "zero", "one zero", "opposite", "nearly alike"]
SHAPES = st.tuples(st.sampled_from([2, 3, 5]), st.sampled_from([1, 4]))
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16])
TAUS = st.sampled_from([1e-3, 0.07, 1.0, 100.0])
SCALES = st.sampled_from([1e-20, 1e-3, 1.0, 1e3, 1e15])
LABELS = st.sampled_from(["one class", "all different", "two"])


def labels_of(kind: str, n: int) -> Tensor:
    return {"one class": torch.zeros(n, dtype=torch.int64), "all different": torch.arange(n)}.get(
        kind, torch.arange(n) % 2
    )


Loss = Callable[[Tensor, Tensor, float, Tensor], Tensor]
LOSSES: dict[str, Loss] = {
    "info_nce": lambda a, b, tau, y: info_nce(a, b, tau),
    "multisclip": lambda a, b, tau, y: multisclip_pair(a, b, tau),
    "multisclip, detached": lambda a, b, tau, y: multisclip_pair(a, b, tau, detach_targets=True),
    "nt_xent": lambda a, b, tau, y: nt_xent(a, b, tau),
    "directed": lambda a, b, tau, y: directed_info_nce(a, b, tau),
    "directed, without its positive": lambda a, b, tau, y: directed_info_nce(a, b, tau, False),
    "cmc": lambda a, b, tau, y: cmc([a, b, a], tau),
    "self": lambda a, b, tau, y: self_contrast([a, b], [b, a], tau),
    "cross and self": lambda a, b, tau, y: cmc([a, b], tau) + self_contrast([a, b], [b, a], tau),
    "comm": lambda a, b, tau, y: comm_terms([a, b, a], [b, a, b], tau)[0],
    "comm, weighted": lambda a, b, tau, y: comm_terms([a, b, a], [b, a, b], tau, weights=[0, 0, 1], reduction="sum")[0],
    "comm, directed": lambda a, b, tau, y: comm_terms([a, b, a], [b, a, b], tau, estimator="info_nce")[0],
    "comm, as printed": lambda a, b, tau, y: comm_paper_terms(a, b, [a, b], tau)[0],
    "gmc": lambda a, b, tau, y: gmc_loss(a, [b, a], tau),
    "cyclic": lambda a, b, tau, y: cyclic_consistency(a, b) + info_nce(a, b, tau),
    "cloob": lambda a, b, tau, y: cloob(a, b, tau),
    "confu": lambda a, b, tau, y: confu_loss({"a": a, "b": b, "c": a}, {("a", "b"): b, ("a", "c"): a}, tau),
    "barlow": lambda a, b, tau, y: barlow_twins(a, b),
    "decur": lambda a, b, tau, y: decur_loss([a, b], [b, a], 1),
    "disentangled, shared": lambda a, b, tau, y: disentangled_shared_loss([a, b], tau),
    "disentangled, specific": lambda a, b, tau, y: disentangled_specific_loss([[a, b], [b, a]], [[b, a], [a, b]], tau),
    "gram": lambda a, b, tau, y: gram_loss([a, b], tau, 0),
    "gram, symmetric": lambda a, b, tau, y: gram_loss([a, b, b.roll(1, 0)], tau),
    "triangle": lambda a, b, tau, y: gram_loss([a, b, b.roll(1, 0)], tau, form="triangle"),
    "symile": lambda a, b, tau, y: symile_loss([a, b, a], tau),
    "symile, drawn": lambda a, b, tau, y: symile_loss([a, b], tau, [[torch.arange(len(a)).roll(1)]] * 2),
    "infmasking": lambda a, b, tau, y: infmasking_loss([[a, b, a], [b, a, b]], [[b, a], [a, b]], tau),
    "supcon": lambda a, b, tau, y: supcon([a, b], y, tau),
    "multifold": lambda a, b, tau, y: multifold_terms(unit(a), unit(b), y, y, tau=tau)["loss"],
    "multifold, logsum": lambda a, b, tau, y: multifold_terms(unit(a), unit(b), y, y, tau=tau, hard="logsum")["loss"],
    "multifold, intra": lambda a, b, tau, y: multifold_terms(
        unit(a), unit(b), y, y, tau=tau, relation="intra", combine="additive"
    )["loss"],
    "multifold, pair": lambda a, b, tau, y: multifold_terms(
        unit(a), unit(b), y, y, tau=tau, relation="pair", tau_soft=tau
    )["loss"],
    "mil_nce": lambda a, b, tau, y: mil_nce(unit(a), unit(b), y, y, tau=tau),
    "mil_nce, double": lambda a, b, tau, y: mil_nce(unit(a), unit(b), y, y, tau=tau, double_count=True),
    "siglip": lambda a, b, tau, y: siglip(unit(a), unit(b), y, y, scale=1 / tau, bias=-10.0),
    "tricolo": lambda a, b, tau, y: weighted_nt_xent(
        {"a": unit(a), "b": unit(b)}, {"a->b": 0.25, "b->a": 0.75}, tau=tau
    ),
    "tuples": lambda a, b, tau, y: tuple_info_nce_terms(unit(a), unit(b), [unit(b), unit(a)], [1.0, 0.0], tau).loss,
    "tuples, own": lambda a, b, tau, y: tuple_info_nce_terms(unit(a), unit(b), [unit(a)], [2.0], tau, rows="own").loss,
    "tuples, scenes": lambda a, b, tau, y: (
        tuple_info_nce_terms(unit(a), unit(b), [unit(b)], [1.0], tau, rows="others", scenes=y, detach_keys=True).loss
    ),
    "own rows": lambda a, b, tau, y: own_row_logits(unit(a), a + b, [a, b], tau)[0].logsumexp(1).mean(),
}


# of dimensions over the rows, of which a row of zeros is one like another; of rows side by side
NOT_UNIT = ("barlow", "decur", "disentangled, specific")


def finite_or_refused(loss: Callable[[], Tensor], leaves: list[Tensor]) -> None:
    """The one thing asked of every loss."""
    try:
        value = loss()
    except ContrastError:
        return
    assert value.ndim == 0
    assert torch.isfinite(value), value
    value.backward()
    for leaf in leaves:
        assert leaf.grad is None or torch.isfinite(leaf.grad).all(), leaf.grad


@pytest.mark.parametrize("name", LOSSES)
@given(
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
    shape=SHAPES,
    scale=SCALES,
    tau=TAUS,
    dtype=DTYPES,
    labels=LABELS,
    seed=st.integers(0, 99),
)
def test_embeddings_of_any_kind(
    name: str,
    kinds: tuple[str, str],
    shape: tuple[int, int],
    scale: float,
    tau: float,
    dtype: torch.dtype,
    labels: str,
    seed: int,
) -> None:
    a = embeddings(kinds[0], *shape, scale, dtype, seed).requires_grad_()
    b = embeddings(kinds[1], *shape, scale, dtype, seed + 1).requires_grad_()
    y = labels_of(labels, shape[0])
    finite_or_refused(lambda: LOSSES[name](a, b, tau, y), [a, b])


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "own rows"])
@pytest.mark.parametrize("n", [0, 1])
def test_too_few_rows(name: str, n: int) -> None:
    a, b = (torch.ones(n, 3, requires_grad=True) for _ in range(2))
    finite_or_refused(lambda: LOSSES[name](a, b, 0.1, torch.zeros(n, dtype=torch.int64)), [a, b])


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ("own rows", *NOT_UNIT)])
@pytest.mark.parametrize("twice", [False, True])
def test_zero_row_gets_no_gradient(name: str, twice: bool) -> None:
    """A row of zeros has no direction to be turned to, however often it is normalised; the others learn as ever."""
    a = embeddings("one zero", 4, 3, 1.0, torch.float32, 0).requires_grad_()
    b = embeddings("random", 4, 3, 1.0, torch.float32, 1).requires_grad_()
    given_a, given_b = (unit(a), unit(b)) if twice else (a, b)
    LOSSES[name](given_a, given_b, 0.1, labels_of("two", 4)).backward()
    assert a.grad is not None
    assert (a.grad[0] == 0).all()
    assert (a.grad[1:].abs().amax(1) > 1e-7).all()
    assert a.grad.abs().max() < 1e3


@given(
    kind=st.sampled_from(["random", "alike", "nearly alike"]), scale=SCALES.filter(lambda s: s > 1e-10), dtype=DTYPES
)
def test_unit_rows_are_those_of_torch(kind: str, scale: float, dtype: torch.dtype) -> None:
    """Where there is a direction: bit for bit, values and gradients."""
    z = embeddings(kind, 5, 4, scale, dtype, 0).requires_grad_()
    weight = embeddings("random", 5, 4, 1.0, dtype, 1)
    ours, theirs = unit(z), F.normalize(z, dim=1)
    assert torch.equal(ours, theirs)
    gradients = [torch.autograd.grad((rows * weight).sum(), z)[0] for rows in (ours, theirs)]
    assert torch.equal(*gradients)


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1.0, 1e10, 1e18, 1e19, 1e25, 1e30, 1e38])
def test_rows_of_any_scale_have_their_direction_or_are_not_finite(scale: float) -> None:
    """Never another loss than that of the directions: a diverged embedding must not look calm."""
    z = embeddings("random", 5, 4, 1.0, torch.float64, 0)
    found = unit((z * scale).float())
    right = F.normalize(z, dim=1) if scale >= 1e-12 else torch.zeros_like(z)
    finite = found.isfinite().all(dim=1)
    torch.testing.assert_close(found[finite].double(), right[finite], atol=1e-6, rtol=0)
    assert found[~finite].isnan().all()
    assert finite.all() or scale > 1e18


def logits_of(n: int, c: int, numbers: list[float]) -> Tensor:
    rows = [[numbers[(i * c + j) % len(numbers)] for j in range(c)] for i in range(n)]
    return torch.tensor(rows, dtype=torch.float32, requires_grad=True)


NUMBERS = st.lists(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 88.0, -104.0, 1e4, -1e4, LARGEST_LOGIT, -LARGEST_LOGIT, 1e-45]),
    min_size=1,
    max_size=9,
)
BY_LOGITS: dict[str, Callable[[Tensor], Tensor]] = {
    "soft": lambda s: soft_cross_entropy(s, torch.eye(len(s))),
    "both directions": lambda s: bidirectional_cross_entropy(s, torch.eye(len(s)), torch.eye(len(s))),
    "labels": lambda s: label_cross_entropy(s, torch.zeros(len(s), dtype=torch.int64)),
    "factorcl": lambda s: factorcl_terms(
        dict.fromkeys(("cross", "self1", "self2", "conditional", "cross_club", "conditional_club"), s)
    )["loss"],
    "factorcl's critics": lambda s: club_critic_loss({"cross_club": s, "conditional_club": s}),
}


@pytest.mark.parametrize("name", BY_LOGITS)
@given(n=st.integers(1, 4), numbers=NUMBERS)
def test_logits_of_any_size(name: str, n: int, numbers: list[float]) -> None:
    scores = logits_of(n, n, numbers)
    finite_or_refused(lambda: BY_LOGITS[name](scores), [scores])


@given(
    n=st.integers(1, 6),
    alpha=st.sampled_from([1e-3, 0.15, 1.0, 1e3]),
    p=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_mixing_stays_between_the_rows_it_mixes(n: int, alpha: float, p: float, seed: int) -> None:
    lambda_B, perm_B = sample_mix(n, alpha, p, torch.Generator().manual_seed(seed))
    assert ((lambda_B >= 0) & (lambda_B <= 1)).all()
    assert sorted(perm_B.tolist()) == list(range(n))
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    mixed, low, high = apply_mix(x, lambda_B, perm_B), torch.minimum(x, x[perm_B]), torch.maximum(x, x[perm_B])
    assert ((mixed >= low - 1e-6) & (mixed <= high + 1e-6)).all()
    torch.testing.assert_close(mix_targets(lambda_B, perm_B).sum(1).double(), torch.ones(n, dtype=torch.float64))
