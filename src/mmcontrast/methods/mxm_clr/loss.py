"""Multifold-aware hybrid loss: every observation of an instance is a positive, hard and soft.

A RECONSTRUCTION of the central loss of MXM-CLR (Wang, Jiang, Zou, Ma: "MXM-CLR: A Unified Framework for Contrastive
Learning of Multifold Cross-Modal Representations", arXiv:2303.10839). The paper states that multiple positives enter
in a hard and in a soft relation; its equations, weights and temperatures are not known to us, and its repository holds
no code. Nothing here may be read as the paper's own formula.

With logits l = a b^T / tau, positives of row p = the rows of b of the same instance, h = uniform over the positives:

    hard, "mean"    mean_p  CE(h_p, softmax_q l_pq)              (SupCon's sum outside the log, across modalities only)
    hard, "logsum"  mean_p -log sum_{positives q} softmax_q l_pq (one positive may carry the anchor, as in MIL-NCE)
    soft            mean_p  CE(softmax_q(r_pq / tau_soft), softmax_q l_pq),  r detached

each averaged over both directions. With one observation per side, hard is CLIP's InfoNCE. Hard "mean" is at least
(ln m_a + ln m_b) / 2, not 0, so losses at different multiplicities cannot be compared; `gap`, the loss minus the
entropy of its targets, can.

Shapes: P rows of modality a, Q rows of modality b, N instances, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any, Literal

import torch
from torch import Tensor

from mmcontrast.errors import ContrastError, nearest
from mmcontrast.losses.rows import full_precision, instance_mean, number_instances, upcast
from mmcontrast.methods.mxm_clr.sums import RELATIONS, Sums, Targets, sums_at_once, sums_in_chunks

__all__ = ["multifold_loss", "multifold_pairs_loss", "multifold_pairs_terms", "multifold_terms"]


@full_precision
def multifold_terms(
    a: Tensor,
    b: Tensor,
    ids_a: Tensor,
    ids_b: Tensor,
    *,
    tau: float | Tensor = 0.1,
    tau_soft: float = 0.2,
    hard: Literal["mean", "logsum"] = "mean",
    relation: Literal["block", "intra", "pair"] = "block",
    soft_weight: float = 0.5,
    combine: Literal["convex", "additive"] = "convex",
    reduce: Literal["row", "instance"] = "row",
    teacher: tuple[Tensor, Tensor] | None = None,
    chunk: int | None = None,
) -> dict[str, Tensor]:
    """The hard and soft loss of two modalities, both directions; a reconstruction (see the module).

    Computed in float32 at least, also under autocast.

    Args:
        a, b: (P, D) and (Q, D) unit rows, the observations of each modality, in any order and number per instance.
        ids_a, ids_b: integer instance of each row. Every instance needs a row in both modalities.
        tau: temperature of the predictions, > 0; a tensor if it is learned.
        tau_soft: temperature of the soft targets, > 0.
        hard: how several positives share an anchor.
        relation: what the soft targets are made of, a key of `relations.RELATIONS`.
        soft_weight: w >= 0. convex: (1 - w) hard + w soft, w <= 1; additive: hard + w soft.
        reduce: mean over rows, or over instances of the mean over their rows (equal unless ragged).
        teacher: rows like a and b that the relation is computed from, e.g. of a momentum copy; default: these.
        chunk: rows of a that are worked on at once; memory grows with chunk x Q, and backward computes each chunk
            anew (once: no second derivative). None: all rows at once. The result is the same.

    Returns:
        `loss` with gradient, and detached: `gap` (loss minus entropy of its targets, >= 0), `hard`, `soft`,
        `hard_gap`, `soft_gap`, and `hard`, `soft`, `soft_gap` by direction with the suffix `_ab` or `_ba`.

    Raises:
        ContrastError: an argument is out of its range, shapes do not fit, or an instance has rows in one modality only.
    """
    _check(a, b, ids_a, ids_b, tau, tau_soft, hard, relation, soft_weight, combine, reduce, chunk)
    index_P, index_Q, n_instances = number_instances(ids_a, ids_b)
    source = (a, b) if teacher is None else tuple(upcast(t) for t in teacher)
    if source[0].shape != a.shape or source[1].shape != b.shape:
        raise ContrastError(f"teacher: shapes {[list(t.shape) for t in source]} are not those of the rows")
    rows_of = RELATIONS[relation](source[0].detach(), source[1].detach(), index_P, index_Q, n_instances)
    targets = Targets(index_P, index_Q, rows_of, tau_soft, log_positives=hard == "logsum")
    scale = torch.as_tensor(tau, dtype=a.dtype, device=a.device)
    sums = sums_at_once(a, b, scale, targets) if chunk is None else sums_in_chunks(a, b, scale, targets, chunk)
    if hard == "mean":
        # sum_q h l is linear in the rows of b: the row's product with the mean of its positives
        row_positive = (a * instance_mean(b, index_Q, n_instances)[index_P]).sum(1) / scale
        column_positive = (b * instance_mean(a, index_P, n_instances)[index_Q]).sum(1) / scale
    else:
        row_positive, column_positive = sums.row_positive, sums.column_positive
    hard_P, hard_Q = sums.row_lse - row_positive, sums.column_lse - column_positive
    counts = tuple(torch.bincount(index, minlength=n_instances) for index in (index_P, index_Q))
    # the hard target of a row of a is uniform over its instance's rows in b, so its entropy is ln of their number
    floors = (counts[1][index_P].to(a.dtype).log(), counts[0][index_Q].to(a.dtype).log())
    if hard == "logsum":
        floors = (torch.zeros_like(floors[0]), torch.zeros_like(floors[1]))
    weights = tuple(_row_weights(index, n_instances, reduce, a.dtype) for index in (index_P, index_Q))
    return _combine(sums, (hard_P, hard_Q), floors, weights, soft_weight, combine)


def multifold_pairs_terms(z: Mapping[str, Tensor], ids: Mapping[str, Tensor], **options: Any) -> dict[str, Tensor]:
    """`multifold_terms` summed over all pairs of two or more modalities, as TriCoLo sums its pairs.

    Args:
        z: modality -> unit rows. ids: modality -> instance of each row. options: those of `multifold_terms`;
            `teacher` is then a mapping like z.

    Returns:
        The sums, under the names of `multifold_terms`.

    Raises:
        ContrastError: fewer than two modalities, or as `multifold_terms`.
    """
    if len(z) < 2:
        raise ContrastError(f"a contrast needs two modalities, and there is {list(z)}")
    teacher = options.pop("teacher", None)
    total: dict[str, Tensor] = {}
    for a, b in combinations(z, 2):
        pair_teacher = None if teacher is None else (teacher[a], teacher[b])
        terms = multifold_terms(z[a], z[b], ids[a], ids[b], teacher=pair_teacher, **options)
        total = {k: total[k] + v if total else v for k, v in terms.items()}
    return total


def multifold_loss(a: Tensor, b: Tensor, ids_a: Tensor, ids_b: Tensor, **options: Any) -> Tensor:
    """The scalar of `multifold_terms`, which says what the arguments are."""
    return multifold_terms(a, b, ids_a, ids_b, **options)["loss"]


def multifold_pairs_loss(z: Mapping[str, Tensor], ids: Mapping[str, Tensor], **options: Any) -> Tensor:
    """The scalar of `multifold_pairs_terms`, which says what the arguments are."""
    return multifold_pairs_terms(z, ids, **options)["loss"]


def _combine(
    sums: Sums,
    hard: tuple[Tensor, Tensor],
    floors: tuple[Tensor, Tensor],
    weights: tuple[Tensor, ...],
    soft_weight: float,
    combine: str,
) -> dict[str, Tensor]:
    """The named terms of both directions."""
    hard_ab, hard_ba = weights[0] @ hard[0], weights[1] @ hard[1]
    soft_ab = weights[0] @ (sums.row_lse - sums.row_soft)
    soft_ba = weights[1] @ (sums.column_lse - sums.column_soft)
    hard_floor = (weights[0] @ floors[0] + weights[1] @ floors[1]) / 2
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
        "soft_gap_ab": soft_ab - weights[0] @ sums.row_entropy,
        "soft_gap_ba": soft_ba - weights[1] @ sums.column_entropy,
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
    reduce: str,
    chunk: int | None,
) -> None:
    for name, z, ids in (("a", a_PD, ids_P), ("b", b_QD, ids_Q)):
        if z.ndim != 2 or ids.shape != z.shape[:1] or len(z) == 0:
            raise ContrastError(
                f"{name}: rows {list(z.shape)} and ids {list(ids.shape)}; wanted (rows, width) and (rows,)"
            )
        if ids.is_floating_point():
            raise ContrastError(f"{name}: ids are {ids.dtype}; wanted integers")
    if a_PD.shape[1] != b_QD.shape[1]:
        raise ContrastError(f"widths differ: a {a_PD.shape[1]}, b {b_QD.shape[1]}")
    for name, value, known in (
        ("hard", hard, ("mean", "logsum")),
        ("relation", relation, tuple(RELATIONS)),
        ("combine", combine, ("convex", "additive")),
        ("reduce", reduce, ("row", "instance")),
    ):
        if value not in known:
            raise ContrastError(f"{name}: '{value}' is not accepted; {nearest(value, known)}")
    top = 1.0 if combine == "convex" else float("inf")
    if not 0 <= soft_weight <= top:
        raise ContrastError(f"soft_weight: {soft_weight} is not in [0, {top:g}], the range for combine='{combine}'")
    if tau_soft <= 0 or (not isinstance(tau, Tensor) and tau <= 0):
        raise ContrastError(f"temperatures must be positive: tau {tau}, tau_soft {tau_soft}")
    if chunk is not None and chunk < 1:
        raise ContrastError(f"chunk: {chunk} rows; give at least 1, or None")
