"""Soft relations between observations, and the sums over all pairs of rows that the multifold loss is made of.

MXM-CLR (Wang et al., arXiv:2303.10839) says that multiple positives are considered in a soft relation; its formula is
not known to us, so each relation here is a RECONSTRUCTION. A relation is a matrix r_PQ that is handed out by rows, so
that no caller need ever hold P x Q numbers. It carries no gradient: targets that move with the predictions chase them.

Sums at once are plain autograd and keep some five P x Q matrices for backward. In chunks, forward keeps vectors alone,
and backward makes each chunk's logits and targets anew: one product more for memory that grows with chunk x Q.

Shapes: P rows of modality a, Q rows of modality b, c rows of a chunk of a, N instances, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmcontrast.losses.rows import instance_mean, unit_rows

Rows = Callable[[slice], Tensor]
"""Takes a slice of the rows of a and gives r_cQ, a tensor of its own that may be written to."""

Relation = Callable[[Tensor, Tensor, Tensor, Tensor, int], Rows]
"""(a_PD, b_QD, index_P, index_Q, N) -> Rows; the indices are those of `instances.number_instances`."""


@torch.no_grad()
def block_relation(a_PD: Tensor, b_QD: Tensor, index_P: Tensor, index_Q: Tensor, n_instances: int) -> Rows:
    """Reconstruction: the mean similarity over all pairs of observations of the two instances.

    The mean of dot products is the dot product of the means, so an N x N matrix is all that is kept.
    """
    block_NN = instance_mean(a_PD, index_P, n_instances) @ instance_mean(b_QD, index_Q, n_instances).T
    return lambda rows: block_NN[index_P[rows]][:, index_Q]


@torch.no_grad()
def intra_relation(a_PD: Tensor, b_QD: Tensor, index_P: Tensor, index_Q: Tensor, n_instances: int) -> Rows:
    """Reconstruction: similarity inside each modality to the other instance's unit mean, both averaged.

    r[p, q] = (a_p . mean_a(instance of q) + mean_b(instance of p) . b_q) / 2; an observation counts in its own mean.
    In the spirit of SoftCLIP (arXiv:2303.17561), in a form that does not need as many views as captions.
    """
    mean_a_ND = unit_rows(instance_mean(a_PD, index_P, n_instances))
    mean_b_ND = unit_rows(instance_mean(b_QD, index_Q, n_instances))

    def rows_of(rows: slice) -> Tensor:
        within_a_cQ = (a_PD[rows] @ mean_a_ND.T)[:, index_Q]
        within_b_cQ = mean_b_ND[index_P[rows]] @ b_QD.T
        return within_a_cQ.add_(within_b_cQ).div_(2)

    return rows_of


@torch.no_grad()
def pair_relation(a_PD: Tensor, b_QD: Tensor, index_P: Tensor, index_Q: Tensor, n_instances: int) -> Rows:
    """Reconstruction: the similarity of the two observations themselves (self-distillation).

    A low loss under this relation says little: target and prediction have the same shape by construction. At one
    temperature for both they are equal and the soft part has no gradient; so it is under `block` with one row each.
    """
    return lambda rows: a_PD[rows] @ b_QD.T


RELATIONS: dict[str, Relation] = {"block": block_relation, "intra": intra_relation, "pair": pair_relation}


@dataclass(frozen=True)
class Targets:
    """What, beside the rows themselves, decides the sums; nothing here has a gradient.

    Attributes:
        index_a, index_b: (P,) and (Q,) instance of each row. rows_of: the relation, by rows of a.
        tau_soft: temperature of the soft targets t_row = softmax_q(r / tau_soft), t_column = softmax_p(r / tau_soft).
        log_positives: whether the log-sums over positives are wanted.
    """

    index_a: Tensor
    index_b: Tensor
    rows_of: Rows
    tau_soft: float
    log_positives: bool


@dataclass(frozen=True)
class Sums:
    """Of logits l = a b^T / tau, with gradient, save the entropies.

    Attributes:
        row_lse, column_lse: (P,) and (Q,) logsumexp of l. row_soft, column_soft: sums of t l.
        row_positive, column_positive: logsumexp of l over the positives; zeros where they were not asked for.
        row_entropy, column_entropy: entropies of t.
    """

    row_lse: Tensor
    column_lse: Tensor
    row_soft: Tensor
    column_soft: Tensor
    row_positive: Tensor
    column_positive: Tensor
    row_entropy: Tensor
    column_entropy: Tensor


def sums_at_once(a_PD: Tensor, b_QD: Tensor, tau: Tensor, targets: Targets) -> Sums:
    """The sums, with the graph of all P x Q pairs kept for backward."""
    logits_PQ = a_PD @ b_QD.T / tau
    with torch.no_grad():
        log_t_PQ = targets.rows_of(slice(None)) / targets.tau_soft
        t_row_PQ, t_column_PQ = log_t_PQ.softmax(1), log_t_PQ.softmax(0)
        row_entropy = torch.special.entr(t_row_PQ).sum(1)
        column_entropy = torch.special.entr(t_column_PQ).sum(0)
    row_positive, column_positive = a_PD.new_zeros(len(a_PD)), a_PD.new_zeros(len(b_QD))
    if targets.log_positives:
        others_PQ = targets.index_a[:, None] != targets.index_b
        positive_PQ = logits_PQ.masked_fill(others_PQ, -torch.inf)
        row_positive, column_positive = positive_PQ.logsumexp(1), positive_PQ.logsumexp(0)
    return Sums(
        logits_PQ.logsumexp(1),
        logits_PQ.logsumexp(0),
        (t_row_PQ * logits_PQ).sum(1),
        (t_column_PQ * logits_PQ).sum(0),
        row_positive,
        column_positive,
        row_entropy,
        column_entropy,
    )


def sums_in_chunks(a_PD: Tensor, b_QD: Tensor, tau: Tensor, targets: Targets, chunk: int) -> Sums:
    """The same sums, `chunk` rows of a at a time; differentiable once."""
    return Sums(*_Chunked.apply(a_PD, b_QD, tau, targets, chunk))


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a_PD: Tensor, b_QD: Tensor, tau: Tensor, targets: Targets, chunk: int) -> tuple[Tensor, ...]:
        slices = [slice(i, min(i + chunk, len(a_PD))) for i in range(0, len(a_PD), chunk)]
        # a column's soft targets need the normaliser of the whole column first
        relation_row, relation_column = _over(slices, lambda rows: _relation(targets, rows))
        row_soft, row_entropy = torch.empty_like(relation_row), relation_row.clone()
        column_soft, column_entropy = torch.zeros_like(relation_column), relation_column.clone()
        row_lse = torch.empty_like(relation_row)
        column_lse = torch.full_like(relation_column, -torch.inf)
        row_positive, column_positive = torch.zeros_like(row_lse), torch.zeros_like(column_lse)
        if targets.log_positives:
            column_positive.fill_(-torch.inf)
        for rows in slices:
            logits_cQ = (a_PD[rows] @ b_QD.T).div_(tau)
            row_lse[rows], partial_Q = _lse(logits_cQ)
            torch.logaddexp(column_lse, partial_Q, out=column_lse)
            relation_cQ = _relation(targets, rows)
            t_cQ = (relation_cQ - relation_row[rows, None]).exp_()
            row_soft[rows] = torch.einsum("cq,cq->c", t_cQ, logits_cQ)
            row_entropy[rows] -= torch.einsum("cq,cq->c", t_cQ, relation_cQ)
            torch.sub(relation_cQ, relation_column, out=t_cQ).exp_()
            column_entropy -= relation_cQ.mul_(t_cQ).sum(0)
            column_soft += t_cQ.mul_(logits_cQ).sum(0)
            if targets.log_positives:
                logits_cQ.masked_fill_(targets.index_a[rows, None] != targets.index_b, -torch.inf)
                row_positive[rows], partial_Q = _lse(logits_cQ)
                torch.logaddexp(column_positive, partial_Q, out=column_positive)
        vectors = (row_lse, column_lse, row_positive, column_positive, relation_row, relation_column)
        ctx.save_for_backward(a_PD, b_QD, tau, *vectors)
        ctx.targets, ctx.slices = targets, slices
        ctx.mark_non_differentiable(row_entropy, column_entropy)
        return (
            row_lse,
            column_lse,
            row_soft,
            column_soft,
            row_positive,
            column_positive,
            row_entropy,
            column_entropy,
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        a_PD, b_QD, tau, row_lse, column_lse, row_positive, column_positive, relation_row, relation_column = (
            ctx.saved_tensors
        )
        g_row_lse, g_column_lse, g_row_soft, g_column_soft, g_row_positive, g_column_positive = grads[:6]
        targets = ctx.targets
        grad_a, grad_b, grad_tau = torch.empty_like(a_PD), torch.zeros_like(b_QD), torch.zeros_like(tau)
        for rows in ctx.slices:
            logits_cQ = (a_PD[rows] @ b_QD.T).div_(tau)
            grad_cQ = (logits_cQ - row_lse[rows, None]).exp_().mul_(g_row_lse[rows, None])
            work_cQ = (logits_cQ - column_lse).exp_()
            grad_cQ.addcmul_(work_cQ, g_column_lse)
            relation_cQ = _relation(targets, rows)
            torch.sub(relation_cQ, relation_row[rows, None], out=work_cQ).exp_()
            grad_cQ.addcmul_(work_cQ, g_row_soft[rows, None])
            torch.sub(relation_cQ, relation_column, out=work_cQ).exp_()
            grad_cQ.addcmul_(work_cQ, g_column_soft)
            if targets.log_positives:
                others_cQ = targets.index_a[rows, None] != targets.index_b
                torch.sub(logits_cQ, row_positive[rows, None], out=work_cQ).exp_().masked_fill_(others_cQ, 0)
                grad_cQ.addcmul_(work_cQ, g_row_positive[rows, None])
                torch.sub(logits_cQ, column_positive, out=work_cQ).exp_().masked_fill_(others_cQ, 0)
                grad_cQ.addcmul_(work_cQ, g_column_positive)
            grad_tau -= torch.dot(grad_cQ.view(-1), logits_cQ.view(-1)) / tau
            grad_cQ.div_(tau)
            grad_a[rows] = grad_cQ @ b_QD
            grad_b.addmm_(grad_cQ.T, a_PD[rows])
        return grad_a, grad_b, grad_tau, None, None


def _relation(targets: Targets, rows: slice) -> Tensor:
    return targets.rows_of(rows).div_(targets.tau_soft)


def _over(slices: list[slice], rows_of: Any) -> tuple[Tensor, Tensor]:
    """logsumexp of a matrix, given by rows, along its rows and along its columns."""
    along_rows, along_columns = _lse(rows_of(slices[0]))
    row_lse = along_rows.new_empty(slices[-1].stop)
    row_lse[slices[0]] = along_rows
    # into what is there already: a small result kept from each chunk lies in the gap that the chunk left on the heap,
    # where the next one then finds no room
    for rows in slices[1:]:
        row_lse[rows], partial_Q = _lse(rows_of(rows))
        torch.logaddexp(along_columns, partial_Q, out=along_columns)
    return row_lse, along_columns


def _lse(x_cQ: Tensor) -> tuple[Tensor, Tensor]:
    return x_cQ.logsumexp(1), x_cQ.logsumexp(0)
