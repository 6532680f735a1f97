"""The sums over all pairs of rows that the multifold loss is made of: at once, or in chunks that memory can hold.

At once autograd keeps some five P x Q matrices for backward. In chunks it keeps vectors alone, and backward makes each
chunk's logits and targets anew: one product more in exchange for memory that grows with chunk x Q.

Shapes: P rows of modality a, Q rows of modality b, c rows of a chunk of a, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmcontrast.methods.mxm_clr.relations import Rows


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


class Sums(NamedTuple):
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


def sums_over_pairs(a_PD: Tensor, b_QD: Tensor, tau: Tensor, targets: Targets, chunk: int | None = None) -> Sums:
    """The sums, `chunk` rows of a at a time; None = all at once."""
    if chunk is None or chunk >= len(a_PD):
        return _part(a_PD, b_QD, tau, targets, slice(None))
    slices = [slice(i, i + chunk) for i in range(0, len(a_PD), chunk)]
    # a column's soft targets need the normaliser of the whole column first
    norms = [targets.rows_of(rows).div_(targets.tau_soft).logsumexp(0) for rows in slices]
    norm_Q = torch.stack(norms).logsumexp(0)
    parts = []
    for rows in slices:
        part = partial(_part, targets=targets, rows=rows, norm_Q=norm_Q)
        parts.append(checkpoint(part, a_PD[rows], b_QD, tau, use_reentrant=False, preserve_rng_state=False))
    found = {name: [getattr(part, name) for part in parts] for name in Sums._fields}
    of_columns = {name: torch.stack(values) for name, values in found.items() if name.startswith("column")}
    of_logits = ("column_lse", *(("column_positive",) if targets.log_positives else ()))
    logs = {name: of_columns[name].logsumexp(0) for name in of_logits}
    rows_whole = {name: torch.cat(values) for name, values in found.items() if name.startswith("row")}
    return Sums(**{name: values.sum(0) for name, values in of_columns.items()} | logs | rows_whole)


def _part(a_cD: Tensor, b_QD: Tensor, tau: Tensor, targets: Targets, rows: slice, norm_Q: Tensor | None = None) -> Sums:
    """The sums over some rows of a. norm_Q: logsumexp of the columns' soft targets; None = these are all rows."""
    logits_cQ = a_cD @ b_QD.T / tau
    with torch.no_grad():
        log_t_cQ = targets.rows_of(rows).div_(targets.tau_soft)
        t_row_cQ = log_t_cQ.softmax(1)
        t_column_cQ = log_t_cQ.softmax(0) if norm_Q is None else (log_t_cQ - norm_Q).exp()
        row_entropy = torch.special.entr(t_row_cQ).sum(1)
        column_entropy = torch.special.entr(t_column_cQ).sum(0)
    row_positive, column_positive = a_cD.new_zeros(len(a_cD)), a_cD.new_zeros(len(b_QD))
    if targets.log_positives:
        others_cQ = targets.index_a[rows, None] != targets.index_b
        positive_cQ = logits_cQ.masked_fill(others_cQ, -torch.inf)
        row_positive, column_positive = positive_cQ.logsumexp(1), positive_cQ.logsumexp(0)
    return Sums(
        logits_cQ.logsumexp(1),
        logits_cQ.logsumexp(0),
        (t_row_cQ * logits_cQ).sum(1),
        (t_column_cQ * logits_cQ).sum(0),
        row_positive,
        column_positive,
        row_entropy,
        column_entropy,
    )
