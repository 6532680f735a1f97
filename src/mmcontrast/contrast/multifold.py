"""Multifold-aware hybrid loss: every observation of an instance is a positive, hard and soft.

A RECONSTRUCTION of the central loss of MXM-CLR (Wang, Jiang, Zou, Ma: "MXM-CLR: A Unified Framework for Contrastive
Learning of Multifold Cross-Modal Representations", arXiv:2303.10839). The paper states that multiple positives enter
in a hard and in a soft relation; its equations, weights and temperatures are not known to us, and its repository holds
no code. Nothing here may be read as the paper's own formula.

With logits l = a b^T / tau, positives of row p = the rows of b of the same instance, h = uniform over the positives:

    hard, "mean"    mean_p  CE(h_p, softmax_q l_pq)              (SupCon's sum outside the log, across modalities only)
    hard, "logsum"  mean_p -log sum_{positives q} softmax_q l_pq (one positive may carry the anchor, as in MIL-NCE)
    soft            mean_p  CE((1 - anchor) h_p + anchor softmax_q(r_pq / tau_soft), softmax_q l_pq),  r detached

each averaged over both directions. With one observation a side, hard is CLIP's InfoNCE. Hard "mean" is at least
(ln m_a + ln m_b) / 2, not 0, so losses at different multiplicities cannot be compared; `gap`, the loss minus the
entropy of its targets, can.

Shapes: P rows of modality a, Q rows of modality b, c rows of a chunk of a, N instances, D width, K chunks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import combinations
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmcontrast.contrast.instances import at_least_float32, number_instances
from mmcontrast.contrast.relations import RELATIONS, Rows
from mmcontrast.errors import nearest


@dataclass(frozen=True)
class _Sums:
    """What a chunk of rows adds up to. Logits enter with gradient, targets and entropies without.

    Row terms are complete; column terms are this chunk's share. `positive` is sum_q h l ("mean") or logsumexp over the
    positives ("logsum"); `soft` is sum_q t l; `entropy` is that of the soft target t.
    """

    row_lse: Tensor
    row_positive: Tensor
    row_soft: Tensor
    row_entropy: Tensor
    column_lse: Tensor
    column_positive: Tensor
    column_soft: Tensor
    column_entropy: Tensor


def multifold_loss(
    a_PD: Tensor,
    b_QD: Tensor,
    ids_P: Tensor,
    ids_Q: Tensor,
    *,
    tau: float | Tensor = 0.1,
    tau_soft: float = 0.2,
    hard: Literal["mean", "logsum"] = "mean",
    relation: Literal["block", "intra", "pair"] = "block",
    soft_weight: float = 0.5,
    combine: Literal["convex", "additive"] = "convex",
    anchor: float = 1.0,
    reduce: Literal["row", "instance"] = "row",
    teacher: tuple[Tensor, Tensor] | None = None,
    chunk: int | None = None,
) -> dict[str, Tensor]:
    """The hard and soft loss of two modalities, both directions; a reconstruction (see the module).

    Computed in float32 at least, also under autocast.

    Args:
        a_PD, b_QD: unit rows, the observations of each modality, in any order and number per instance.
        ids_P, ids_Q: integer instance of each row. Every instance needs a row in both modalities.
        tau: temperature of the predictions, > 0; a tensor if it is learned.
        tau_soft: temperature of the soft targets, > 0.
        hard: how several positives share an anchor.
        relation: what the soft targets are made of, a key of `relations.RELATIONS`.
        soft_weight: w >= 0. convex: (1 - w) hard + w soft, w <= 1; additive: hard + w soft.
        anchor: share in [0, 1] of the relation in the soft targets; the rest is the hard target.
        reduce: mean over rows, or over instances of the mean over their rows (equal unless ragged).
        teacher: rows like a_PD and b_QD that the relation is computed from, e.g. of a momentum copy; default: these.
        chunk: rows of a that are worked on at once; memory grows with chunk x Q, and backward computes each chunk
            anew. None: all rows at once, nothing computed twice. The result is the same.

    Returns:
        `loss` with gradient, and detached: `gap` (loss minus entropy of its targets, >= 0), `hard`, `soft`,
        `hard_gap`, `soft_gap`, and `hard`, `soft`, `soft_gap` by direction with the suffix `_ab` or `_ba`.

    Raises:
        ValueError: an argument is out of its range, shapes do not fit, or an instance has rows in one modality only.
    """
    _check(a_PD, b_QD, ids_P, ids_Q, tau, tau_soft, hard, relation, soft_weight, combine, anchor, reduce, chunk)
    with torch.autocast(a_PD.device.type, enabled=False):
        a_PD, b_QD = at_least_float32(a_PD), at_least_float32(b_QD)
        index_P, index_Q, n_instances = number_instances(ids_P, ids_Q)
        source = (a_PD, b_QD) if teacher is None else tuple(at_least_float32(t) for t in teacher)
        if source[0].shape != a_PD.shape or source[1].shape != b_QD.shape:
            raise ValueError(f"teacher: shapes {[list(t.shape) for t in source]} are not those of the rows")
        rows_of = RELATIONS[relation](source[0].detach(), source[1].detach(), index_P, index_Q, n_instances)
        sums = _all_rows(a_PD, b_QD, index_P, index_Q, n_instances, tau, tau_soft, rows_of, hard, anchor, chunk)
        weights = tuple(_row_weights(index, n_instances, reduce, a_PD.dtype) for index in (index_P, index_Q))
        counts = tuple(torch.bincount(index, minlength=n_instances) for index in (index_P, index_Q))
        # the hard target of a row of a is uniform over its instance's rows in b, so its entropy is ln of their number
        ln_positives = (counts[1][index_P].to(a_PD.dtype).log(), counts[0][index_Q].to(a_PD.dtype).log())
        return _combine(sums, weights, ln_positives, hard, soft_weight, combine)


def multifold_pairs_loss(z: Mapping[str, Tensor], ids: Mapping[str, Tensor], **options: Any) -> dict[str, Tensor]:
    """`multifold_loss` summed over all pairs of two or more modalities, as TriCoLo sums its pairs.

    Args:
        z: modality -> unit rows. ids: modality -> instance of each row. options: those of `multifold_loss`;
            `teacher` is then a mapping like z.

    Returns:
        The sums, under the names of `multifold_loss`.

    Raises:
        ValueError: fewer than two modalities, or as `multifold_loss`.
    """
    if len(z) < 2:
        raise ValueError(f"a contrast needs two modalities, and there is {list(z)}")
    teacher = options.pop("teacher", None)
    total: dict[str, Tensor] = {}
    for a, b in combinations(z, 2):
        pair_teacher = None if teacher is None else (teacher[a], teacher[b])
        terms = multifold_loss(z[a], z[b], ids[a], ids[b], teacher=pair_teacher, **options)
        total = {k: total[k] + v if total else v for k, v in terms.items()}
    return total


def _all_rows(
    a_PD: Tensor,
    b_QD: Tensor,
    index_P: Tensor,
    index_Q: Tensor,
    n_instances: int,
    tau: float | Tensor,
    tau_soft: float,
    rows_of: Rows,
    hard: str,
    anchor: float,
    chunk: int | None,
) -> _Sums:
    """The sums over all rows, one chunk at a time."""
    size = len(a_PD) if chunk is None else min(chunk, len(a_PD))
    slices = [slice(i, min(i + size, len(a_PD))) for i in range(0, len(a_PD), size)]
    with torch.no_grad():  # a column's soft targets need the whole column's normaliser first
        relation_lse_Q = torch.stack([(rows_of(s) / tau_soft).logsumexp(0) for s in slices]).logsumexp(0)
    count_P, count_Q = (torch.bincount(i, minlength=n_instances) for i in (index_P, index_Q))

    def work(a_cD: Tensor, b: Tensor, scale: float | Tensor, rows: slice) -> tuple[Tensor, ...]:
        logits_cQ = a_cD @ b.T / scale
        positive_cQ = index_P[rows, None] == index_Q
        with torch.no_grad():
            relation_cQ = rows_of(rows) / tau_soft
            t_row_cQ = anchor * relation_cQ.softmax(1)
            t_column_cQ = anchor * (relation_cQ - relation_lse_Q).exp()
            del relation_cQ
            if anchor < 1 or hard == "mean":
                h_row_cQ = positive_cQ / count_Q[index_P[rows], None].to(logits_cQ.dtype)
                h_column_cQ = positive_cQ / count_P[index_Q].to(logits_cQ.dtype)
            if anchor < 1:
                t_row_cQ += (1 - anchor) * h_row_cQ
                t_column_cQ += (1 - anchor) * h_column_cQ
            entropies = torch.special.entr(t_row_cQ).sum(1), torch.special.entr(t_column_cQ).sum(0)
        if hard == "mean":
            row_positive, column_positive = (h_row_cQ * logits_cQ).sum(1), (h_column_cQ * logits_cQ).sum(0)
        else:
            # a finite floor: logsumexp over nothing but -inf has no gradient
            masked_cQ = logits_cQ.masked_fill(~positive_cQ, torch.finfo(logits_cQ.dtype).min / 2)
            row_positive, column_positive = masked_cQ.logsumexp(1), masked_cQ.logsumexp(0)
        rows_sums = (logits_cQ.logsumexp(1), row_positive, (t_row_cQ * logits_cQ).sum(1), entropies[0])
        column_sums = (logits_cQ.logsumexp(0), column_positive, (t_column_cQ * logits_cQ).sum(0), entropies[1])
        return rows_sums + column_sums

    parts = []
    for a_cD, rows in zip(a_PD.split(size), slices, strict=True):
        if chunk is not None and torch.is_grad_enabled():
            parts.append(checkpoint(work, a_cD, b_QD, tau, rows, use_reentrant=False, preserve_rng_state=False))
        else:
            parts.append(work(a_cD, b_QD, tau, rows))
    by_name = dict(zip((f.name for f in fields(_Sums)), zip(*parts, strict=True), strict=True))
    joined = {}
    for name, pieces in by_name.items():
        if name.startswith("row"):
            joined[name] = torch.cat(pieces)
        elif name == "column_lse" or (name == "column_positive" and hard == "logsum"):
            joined[name] = torch.stack(pieces).logsumexp(0)
        else:
            joined[name] = torch.stack(pieces).sum(0)
    return _Sums(**joined)


def _combine(
    s: _Sums,
    weights: tuple[Tensor, ...],
    ln_positives: tuple[Tensor, Tensor],
    hard: str,
    soft_weight: float,
    combine: str,
) -> dict[str, Tensor]:
    """The named terms of both directions."""
    hard_ab = weights[0] @ (s.row_lse - s.row_positive)
    hard_ba = weights[1] @ (s.column_lse - s.column_positive)
    soft_ab = weights[0] @ (s.row_lse - s.row_soft)
    soft_ba = weights[1] @ (s.column_lse - s.column_soft)
    hard_floor = (weights[0] @ ln_positives[0] + weights[1] @ ln_positives[1]) / 2 if hard == "mean" else 0.0
    hard_term, soft_term = (hard_ab + hard_ba) / 2, (soft_ab + soft_ba) / 2
    hard_weight = 1 - soft_weight if combine == "convex" else 1.0
    terms = {
        "hard": hard_term,
        "soft": soft_term,
        "hard_gap": hard_term - hard_floor,
        "hard_ab": hard_ab,
        "hard_ba": hard_ba,
        "soft_ab": soft_ab,
        "soft_ba": soft_ba,
        "soft_gap_ab": soft_ab - weights[0] @ s.row_entropy,
        "soft_gap_ba": soft_ba - weights[1] @ s.column_entropy,
    }
    terms["soft_gap"] = (terms["soft_gap_ab"] + terms["soft_gap_ba"]) / 2
    terms["gap"] = hard_weight * terms["hard_gap"] + soft_weight * terms["soft_gap"]
    loss = hard_weight * hard_term + soft_weight * soft_term
    return {"loss": loss, **{k: v.detach() for k, v in terms.items()}}


def _row_weights(index_P: Tensor, n_instances: int, reduce: str, dtype: torch.dtype) -> Tensor:
    """(P,) weights that sum to 1."""
    if reduce == "row":
        return torch.full(index_P.shape, 1 / len(index_P), dtype=dtype, device=index_P.device)
    count_N = torch.bincount(index_P, minlength=n_instances)
    return 1 / (n_instances * count_N[index_P].to(dtype))


def _check(
    a_PD: Tensor,
    b_QD: Tensor,
    ids_P: Tensor,
    ids_Q: Tensor,
    tau: float | Tensor,
    tau_soft: float,
    hard: str,
    relation: str,
    soft_weight: float,
    combine: str,
    anchor: float,
    reduce: str,
    chunk: int | None,
) -> None:
    for name, z, ids in (("a", a_PD, ids_P), ("b", b_QD, ids_Q)):
        if z.ndim != 2 or ids.shape != z.shape[:1] or len(z) == 0:
            raise ValueError(
                f"{name}: rows {list(z.shape)} and ids {list(ids.shape)}; wanted (rows, width) and (rows,)"
            )
        if ids.is_floating_point():
            raise ValueError(f"{name}: ids are {ids.dtype}; wanted integers")
    if a_PD.shape[1] != b_QD.shape[1]:
        raise ValueError(f"widths differ: a {a_PD.shape[1]}, b {b_QD.shape[1]}")
    for name, value, known in (
        ("hard", hard, ("mean", "logsum")),
        ("relation", relation, tuple(RELATIONS)),
        ("combine", combine, ("convex", "additive")),
        ("reduce", reduce, ("row", "instance")),
    ):
        if value not in known:
            raise ValueError(f"{name}: '{value}' is not accepted; {nearest(value, known)}")
    top = 1.0 if combine == "convex" else float("inf")
    if not 0 <= soft_weight <= top:
        raise ValueError(f"soft_weight: {soft_weight} is not in [0, {top:g}], the range for combine='{combine}'")
    if not 0 <= anchor <= 1:
        raise ValueError(f"anchor: {anchor} is not in [0, 1]")
    if tau_soft <= 0 or (not isinstance(tau, Tensor) and tau <= 0):
        raise ValueError(f"temperatures must be positive: tau {tau}, tau_soft {tau_soft}")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk: {chunk} rows; give at least 1, or None")
