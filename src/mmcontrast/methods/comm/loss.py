"""CoMM's objective for any number of modalities: as the released code has it, and as the paper prints it.

A view is a list [z_1, ..., z_n, z_fused]: embeddings of one augmented tuple with modality i alone kept, then with all.
Source: Dufumier et al., ICLR 2025 (arXiv 2409.07402), eqs. 6-7 and algorithm 1; released code Duplums/CoMM.

Shapes: N instances (of all ranks), D width, K = n + 1 terms. a: rows of one unimodal embedding, f, g: the fused ones.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmcontrast.errors import ContrastError
from mmcontrast.losses.pairwise import nt_xent
from mmcontrast.losses.rows import check_pair, full_precision, over_rows, unit_rows

__all__ = ["comm_loss", "comm_paper_loss", "comm_paper_terms", "comm_terms", "directed_info_nce"]

Present = Sequence[Tensor | None] | None
Reduction = Literal["mean", "sum"]
Estimator = Literal["nt_xent", "info_nce"]


class CommTerms(NamedTuple):
    """The scalar loss, and its K unweighted terms (K,), detached, for the log; the fused one is the last."""

    loss: Tensor
    terms: Tensor


def comm_loss(view1: Sequence[Tensor], view2: Sequence[Tensor], tau: float = 0.1, **options: Any) -> Tensor:
    """The released form, a scalar >= 0; `comm_terms` says what the arguments are and gives its terms too."""
    return comm_terms(view1, view2, tau, **options).loss


def comm_paper_loss(
    fused1: Tensor, fused2: Tensor, unimodal: Sequence[Tensor], tau: float = 0.1, **options: Any
) -> Tensor:
    """The paper's form, a scalar; `comm_paper_terms` says what the arguments are and gives its terms too."""
    return comm_paper_terms(fused1, fused2, unimodal, tau, **options).loss


@full_precision
def directed_info_nce(
    anchors: Tensor, others: Tensor, tau: float = 0.1, positive_in_denominator: bool = True
) -> Tensor:
    """-I_NCE(a, b) of the paper's eq. 6: anchors of one view, candidates of the other alone, one direction.

    Args:
        positive_in_denominator: algorithm 1 prints an ambiguous index; False leaves the positive out of the sum.

    Raises:
        ContrastError: shapes differ, N < 2 or tau <= 0.
    """
    check_pair(anchors, others, tau)
    logits_NN = unit_rows(anchors) @ unit_rows(others).T / tau
    positive_N = logits_NN.diagonal()
    if not positive_in_denominator:
        self_NN = torch.eye(len(logits_NN), dtype=torch.bool, device=logits_NN.device)
        logits_NN = logits_NN.masked_fill(self_NN, -torch.inf)
    return (logits_NN.logsumexp(dim=1) - positive_N).mean()


def _written_out(
    view1: Sequence[Tensor],
    view2: Sequence[Tensor],
    tau: float = 0.1,
    estimator: Callable[..., Tensor] = nt_xent,
    present: Present = None,
) -> Tensor:
    """(K,) terms, each half written out: term_i = (l(view1_i, fused2) + l(view2_i, fused1)) / 2. Slow, for any l."""

    def term(a: Tensor, b: Tensor, fused1: Tensor, fused2: Tensor) -> Tensor:
        return (estimator(a, fused2, tau) + estimator(b, fused1, tau)) / 2

    rows = [*(present or [None] * (len(view1) - 1)), None]
    both = zip(rows, view1, view2, strict=True)
    return torch.stack([over_rows(term, rows_N, a, b, view1[-1], view2[-1]) for rows_N, a, b in both])


def comm_terms(
    view1: Sequence[Tensor],
    view2: Sequence[Tensor],
    tau: float = 0.1,
    weights: Sequence[float] | None = None,
    reduction: Reduction = "mean",
    estimator: Estimator = "nt_xent",
    present: Present = None,
) -> CommTerms:
    """The released form: weighted mean or sum over i = 1..n+1 of term_i, the last being the fused one.

    Differences from the paper: z_i come from AUGMENTED inputs and meet the fused embedding of the other augmentation;
    the estimator is NT-Xent over 2N rows; the mean divides by n+1 whatever the weights.

    Args:
        view1, view2: n + 1 tensors (N, D) each, any scale.
        tau: temperature, > 0 (the paper does not state it; 0.1 is the code's).
        weights: n + 1 factors; None = all 1. [0, ..., 0, 1] is the fused term alone, [1, ..., 1, 0] the unimodal ones.
        estimator: nt_xent, or info_nce = the paper's directed one on the same pairs.
        present: where rows lack a modality, n of (N,) bool, None where all rows have it; its term is then of the rows
            that have it, and weighs as `losses.rows` says.

    Raises:
        ContrastError: fewer than two modalities, views or weights of different length, shapes that differ, N < 2,
            tau <= 0.
    """
    _check_tuple(view1, view2, weights, tau)
    n_terms = len(view1)
    factor = torch.ones(n_terms) if weights is None else torch.tensor(list(weights), dtype=torch.float64)
    factor = factor.to(view1[0].device, torch.float64) / (n_terms if reduction == "mean" else 1)
    if estimator == "nt_xent" and can_share(view1[0].dtype, tau) and present is None:
        units1 = [unit_rows(z) for z in view1]
        units2 = [unit_rows(z) for z in view2]
        loss, terms = SharedGram.apply(tau, tuple(factor.tolist()), *units1, *units2)
        return CommTerms(loss, terms)
    terms = _written_out(view1, view2, tau, nt_xent if estimator == "nt_xent" else directed_info_nce, present)
    return CommTerms((terms * factor.to(terms.dtype)).sum(), terms.detach())


def comm_paper_terms(
    fused1: Tensor,
    fused2: Tensor,
    unimodal: Sequence[Tensor],
    tau: float = 0.1,
    weights: Sequence[float] | None = None,
    positive_in_denominator: bool = True,
    present: Present = None,
) -> CommTerms:
    """The paper's form, eq. 7: L = -I(z', z'') + sum_i -(I(z_i, z') + I(z_i, z'')) / 2, z_i from UN-augmented inputs.

    present: as in `comm_terms`.

    Raises:
        ContrastError: as `comm_terms`.
    """
    _check_tuple([*unimodal, fused1], [*unimodal, fused2], weights, tau)

    def estimate(a_ND: Tensor, b_ND: Tensor) -> Tensor:
        return directed_info_nce(a_ND, b_ND, tau, positive_in_denominator)

    def term(z: Tensor, one: Tensor, other: Tensor) -> Tensor:
        return (estimate(z, one) + estimate(z, other)) / 2

    rows = present or [None] * len(unimodal)
    single = [over_rows(term, rows_N, z, fused1, fused2) for rows_N, z in zip(rows, unimodal, strict=True)]
    terms = torch.stack([*single, estimate(fused1, fused2)])
    factor = torch.ones_like(terms) if weights is None else terms.new_tensor(list(weights))
    return CommTerms((terms * factor).sum(), terms.detach())


def _check_tuple(view1: Sequence[Tensor], view2: Sequence[Tensor], weights: Sequence[float] | None, tau: float) -> None:
    n_terms = len(view1)
    if n_terms != len(view2):
        raise ContrastError(f"CoMM: {n_terms} embeddings in one view and {len(view2)} in the other")
    if n_terms < 3:
        raise ContrastError(
            f"CoMM: {max(n_terms - 1, 0)} modality given, and at least two are needed: with one, the fused and the "
            "unimodal term are the same"
        )
    if weights is not None and len(weights) != n_terms:
        raise ContrastError(
            f"CoMM: {len(weights)} term weights for {n_terms} terms (one per modality, then the fused one)"
        )
    for z in (*view1, *view2):
        check_pair(view1[0], z, tau)


def can_share(dtype: torch.dtype, tau: float) -> bool:
    """Whether exp((cos - 1) / tau) stays a normal number for every cosine, so that the constant shift is safe."""
    held_in = torch.float64 if dtype == torch.float64 else torch.float32
    return math.exp(-2 / tau) > 1e3 * torch.finfo(held_in).tiny


class SharedGram(torch.autograd.Function):
    """apply(tau, factors, z_1', ..., z_f', z_1'', ..., z_f'') -> (sum_i factor_i * term_i, terms).

    Rows must have unit length. `terms` carries no gradient. Half precision is computed in float32.

    Written out, every half of every term is an NT-Xent of its own and needs three N x N products (a.a, a.f, f.f): 6K of
    them for K = n + 1 terms. But f.f is the same in all of them, so 4K - 1 distinct blocks do. Two more savings:
    cosines are bounded by 1, so a constant shift replaces the row maximum and one exponential serves a block's rows and
    columns; and since the loss is a scalar, its gradient is worked out while a block is at hand, so that only a few
    blocks live at a time.
    """

    @staticmethod
    def forward(ctx: Any, tau: float, factors: tuple[float, ...], *units_ND: Tensor) -> tuple[Tensor, Tensor]:
        dtype = torch.float64 if units_ND[0].dtype == torch.float64 else torch.float32
        with torch.autocast(units_ND[0].device.type, enabled=False):
            pass_ = _Pass([z.detach().to(dtype) for z in units_ND], tau, factors, gradient=any(ctx.needs_input_grad))
            pass_.run()
        terms = torch.stack(pass_.terms)
        loss = (terms * terms.new_tensor(factors)).sum()
        ctx.mark_non_differentiable(terms)
        ctx.save_for_backward(*[g.to(z.dtype) for g, z in zip(pass_.grads, units_ND, strict=False)])
        return loss, terms

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, grad_terms: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *[grad_loss.to(g.dtype) * g for g in ctx.saved_tensors])


class _Pass:
    """One evaluation: terms, and where asked for the gradient by every input."""

    def __init__(self, units_ND: list[Tensor], tau: float, factors: tuple[float, ...], gradient: bool) -> None:
        self.units, self.tau, self.factors, self.gradient = units_ND, tau, factors, gradient
        self.n = len(units_ND[0])
        self.terms: list[Tensor] = []
        self.grads = [torch.zeros_like(z) for z in units_ND] if gradient else []

    def run(self) -> None:
        k = len(self.factors)
        fused = k - 1, 2 * k - 1
        within = [self._exp_block(f, f) for f in fused]
        row_sums = [e_NN.sum(dim=1) for e_NN in within]
        row_pull = [torch.zeros_like(s) for s in row_sums]
        for i in range(k - 1):
            halves = []
            for v in (0, 1):
                a, f = v * k + i, 1 - v
                own_NN = self._exp_block(a, a)
                own_N, weight = own_NN.sum(dim=1), self.factors[i] / 2
                value, pulls = self._nt_xent(a, fused[f], own_N, row_sums[f], weight, own_NN)
                row_pull[f].add_(pulls[1])
                halves.append(value)
            self.terms.append((halves[0] + halves[1]) / 2)
        # both halves of the fused term are this same value
        value, pulls = self._nt_xent(*fused, row_sums[0], row_sums[1], self.factors[-1])
        self.terms.append(value)
        for v in (0, 1) if self.gradient else ():
            self._pull_within(fused[v], within[v], row_pull[v].add_(pulls[v]))

    def _exp_block(self, first: int, second: int) -> Tensor:
        """exp((a.b - 1) / tau), the diagonal 0 where a is b: an anchor never sees itself."""
        e_NN = torch.mm(self.units[first] / self.tau, self.units[second].T).sub_(1 / self.tau).exp_()
        return e_NN.fill_diagonal_(0) if first == second else e_NN

    def _nt_xent(
        self, first: int, second: int, sum_a_N: Tensor, sum_b_N: Tensor, weight: float, own_NN: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """NT-Xent(a, b) by the sums of their own blocks, and the pulls on these; on a's, if given, done at once."""
        a_ND, b_ND = self.units[first], self.units[second]
        cross_NN = self._exp_block(first, second)
        sum_a_N, sum_b_N = sum_a_N + cross_NN.sum(dim=1), sum_b_N + cross_NN.sum(dim=0)
        scale = weight / (2 * self.n)
        pulls = scale / sum_a_N, scale / sum_b_N
        if self.gradient and weight:
            if own_NN is not None:
                self._pull_within(first, own_NN, pulls[0])
            # softmax of rows and of columns, less two positives
            cross_NN.mul_(pulls[0][:, None] + pulls[1][None, :]).diagonal().sub_(2 * scale)
            self.grads[first].addmm_(cross_NN, b_ND, alpha=1 / self.tau)
            self.grads[second].addmm_(cross_NN.T, a_ND, alpha=1 / self.tau)
        positive = (a_ND * b_ND).sum() / self.tau
        return (sum_a_N.log().sum() + sum_b_N.log().sum() - 2 * positive) / (2 * self.n) + 1 / self.tau, pulls

    def _pull_within(self, index: int, e_NN: Tensor, pull_N: Tensor) -> None:
        """Gradient through z.z: the block is symmetric, so both sides come from one product. Overwrites e_NN."""
        e_NN.mul_(pull_N[:, None] + pull_N[None, :])
        self.grads[index].addmm_(e_NN, self.units[index], alpha=1 / self.tau)
