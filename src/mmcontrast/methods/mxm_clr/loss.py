"""Multifold-aware hybrid loss: every observation of an instance is a positive, hard and soft.

A RECONSTRUCTION of the central loss of MXM-CLR (Wang, Jiang, Zou, Ma: "MXM-CLR: A Unified Framework for Contrastive
Learning of Multifold Cross-Modal Representations", arXiv:2303.10839). The paper states that multiple positives enter
in a hard and in a soft relation; its equations, weights and temperatures are not known to us, and its repository holds
no code. Nothing here may be read as the paper's own formula, no relation either.

With logits l = a b^T / tau, positives of row p = the rows of b of the same instance, h = uniform over the positives:

    hard, "mean"    mean_p  CE(h_p, softmax_q l_pq)              (SupCon's sum outside the log, across modalities only)
    hard, "logsum"  mean_p -log sum_{positives q} softmax_q l_pq (one positive may carry the anchor, as in MIL-NCE)
    soft            mean_p  CE(softmax_q(r_pq / tau_soft), softmax_q l_pq),  r detached

each averaged over both directions. With one observation per side, hard is CLIP's InfoNCE. Hard "mean" is at least
(ln m_a + ln m_b) / 2, not 0, so losses at different multiplicities cannot be compared; `gap`, the loss minus the
entropy of its targets, can. The relation r carries no gradient: targets that move with the predictions chase them.

Shapes: P rows of modality a, Q rows of modality b, N instances, D width.
"""

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any, Literal

import torch
from torch import Tensor

from mmcontrast.errors import ContrastError, nearest
from mmcontrast.losses.rows import full_precision, instance_mean, number_instances, unit_rows, upcast

__all__ = ["multifold_loss", "multifold_pairs_loss", "multifold_pairs_terms", "multifold_terms"]

Relation = Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]
"""(a_PD, b_QD, index_P, index_Q, N) -> r_PQ; the indices are those of `losses.rows.number_instances`."""


@torch.no_grad()
def _block_relation(a_PD: Tensor, b_QD: Tensor, index_P: Tensor, index_Q: Tensor, n_instances: int) -> Tensor:
    """Reconstruction: the mean similarity over all pairs of observations of the two instances."""
    block_NN = instance_mean(a_PD, index_P, n_instances) @ instance_mean(b_QD, index_Q, n_instances).T
    return block_NN[index_P][:, index_Q]


@torch.no_grad()
def _intra_relation(a_PD: Tensor, b_QD: Tensor, index_P: Tensor, index_Q: Tensor, n_instances: int) -> Tensor:
    """Reconstruction: similarity inside each modality to the other instance's unit mean, both averaged.

    r[p, q] = (a_p . mean_a(instance of q) + mean_b(instance of p) . b_q) / 2; an observation counts in its own mean.
    In the spirit of SoftCLIP (arXiv:2303.17561), in a form that does not need as many views as captions.
    """
    mean_a_ND = unit_rows(instance_mean(a_PD, index_P, n_instances))
    mean_b_ND = unit_rows(instance_mean(b_QD, index_Q, n_instances))
    return ((a_PD @ mean_a_ND.T)[:, index_Q] + mean_b_ND[index_P] @ b_QD.T) / 2


@torch.no_grad()
def _pair_relation(a_PD: Tensor, b_QD: Tensor, index_P: Tensor, index_Q: Tensor, n_instances: int) -> Tensor:
    """Reconstruction: the similarity of the two observations themselves (self-distillation).

    At one temperature for both, targets are predictions, without gradient; so it is under `block` with one row each.
    """
    return a_PD @ b_QD.T


RELATIONS: dict[str, Relation] = {"block": _block_relation, "intra": _intra_relation, "pair": _pair_relation}


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
    teacher: tuple[Tensor, Tensor] | None = None,
) -> dict[str, Tensor]:
    """The hard and soft loss of two modalities, both directions; a reconstruction (see the module).

    Computed in float32 at least, also under autocast.

    Args:
        a, b: (P, D) and (Q, D) unit rows, the observations of each modality, in any order and number per instance.
        ids_a, ids_b: integer instance of each row. Every instance needs a row in both modalities.
        tau: temperature of the predictions, > 0; a tensor if it is learned.
        tau_soft: temperature of the soft targets, > 0.
        hard: how several positives share an anchor.
        relation: what the soft targets are made of, a key of `RELATIONS`.
        soft_weight: w >= 0. convex: (1 - w) hard + w soft, w <= 1; additive: hard + w soft.
        teacher: rows like a and b that the relation is computed from, e.g. of a momentum copy; default: these.

    Returns:
        `loss` with gradient, and detached: `gap` (loss minus entropy of its targets, >= 0), `hard`, `soft`,
        `hard_gap`, `soft_gap`, and `hard`, `soft`, `soft_gap` by direction with the suffix `_ab` or `_ba`.

    Raises:
        ContrastError: an argument is out of its range, shapes do not fit, or an instance has rows in one modality only.
    """
    _check_rows(a, b, ids_a, ids_b)
    _check_options(tau, tau_soft, soft_weight, hard=hard, relation=relation, combine=combine)
    index_P, index_Q, n = number_instances(ids_a, ids_b)
    source = (a, b) if teacher is None else tuple(upcast(t) for t in teacher)
    if source[0].shape != a.shape or source[1].shape != b.shape:
        raise ContrastError(f"teacher: shapes {[list(t.shape) for t in source]} are not those of the rows")
    scale = torch.as_tensor(tau, dtype=a.dtype, device=a.device)
    logits_PQ = a @ b.T / scale
    with torch.no_grad():
        log_t_PQ = RELATIONS[relation](source[0].detach(), source[1].detach(), index_P, index_Q, n) / tau_soft
        t_row_PQ, t_column_PQ = log_t_PQ.softmax(1), log_t_PQ.softmax(0)
        entropy_P, entropy_Q = torch.special.entr(t_row_PQ).sum(1), torch.special.entr(t_column_PQ).sum(0)
    if hard == "logsum":
        positive_PQ = logits_PQ.masked_fill(index_P[:, None] != index_Q, -torch.inf)
        positive_P, positive_Q = positive_PQ.logsumexp(1), positive_PQ.logsumexp(0)
    lse_P, lse_Q = logits_PQ.logsumexp(1), logits_PQ.logsumexp(0)
    soft_P, soft_Q = (t_row_PQ * logits_PQ).sum(1), (t_column_PQ * logits_PQ).sum(0)
    if hard == "mean":
        # sum_q h l is linear in the rows of b: the row's product with the mean of its positives
        positive_P = (a * instance_mean(b, index_Q, n)[index_P]).sum(1) / scale
        positive_Q = (b * instance_mean(a, index_P, n)[index_Q]).sum(1) / scale
    hard_P, hard_Q = lse_P - positive_P, lse_Q - positive_Q
    mean_P, mean_Q = (torch.full_like(of, 1 / len(of)) for of in (lse_P, lse_Q))
    hard_ab, hard_ba = mean_P @ hard_P, mean_Q @ hard_Q
    soft_ab, soft_ba = mean_P @ (lse_P - soft_P), mean_Q @ (lse_Q - soft_Q)
    hard_term, soft_term = (hard_ab + hard_ba) / 2, (soft_ab + soft_ba) / 2
    floor: float | Tensor = 0.0
    if hard == "mean":
        # the hard target of a row is uniform over its instance's rows in the other modality: entropy ln of their number
        count_P, count_Q = torch.bincount(index_Q)[index_P], torch.bincount(index_P)[index_Q]
        floor = (mean_P @ count_P.to(a.dtype).log() + mean_Q @ count_Q.to(a.dtype).log()) / 2
    terms = {
        "hard": hard_term,
        "soft": soft_term,
        "hard_gap": hard_term - floor,
        "hard_ab": hard_ab,
        "hard_ba": hard_ba,
        "soft_ab": soft_ab,
        "soft_ba": soft_ba,
        "soft_gap_ab": soft_ab - mean_P @ entropy_P,
        "soft_gap_ba": soft_ba - mean_Q @ entropy_Q,
    }
    hard_weight = 1 - soft_weight if combine == "convex" else 1.0
    terms["soft_gap"] = (terms["soft_gap_ab"] + terms["soft_gap_ba"]) / 2
    terms["gap"] = hard_weight * terms["hard_gap"] + soft_weight * terms["soft_gap"]
    loss = hard_weight * hard_term + soft_weight * soft_term
    return {"loss": loss, **{k: v.detach() for k, v in terms.items()}}


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


def _check_rows(a_PD: Tensor, b_QD: Tensor, ids_P: Tensor, ids_Q: Tensor) -> None:
    for name, z, ids in (("a", a_PD, ids_P), ("b", b_QD, ids_Q)):
        if z.ndim != 2 or ids.shape != z.shape[:1] or len(z) == 0:
            raise ContrastError(
                f"{name}: rows {list(z.shape)} and ids {list(ids.shape)}; wanted (rows, width) and (rows,)"
            )
        if ids.is_floating_point():
            raise ContrastError(f"{name}: ids are {ids.dtype}; wanted integers")
    if a_PD.shape[1] != b_QD.shape[1]:
        raise ContrastError(f"widths differ: a {a_PD.shape[1]}, b {b_QD.shape[1]}")


def _check_options(tau: float | Tensor, tau_soft: float, soft_weight: float, **chosen: str) -> None:
    known = {"hard": ("mean", "logsum"), "relation": tuple(RELATIONS), "combine": ("convex", "additive")}
    for name, value in chosen.items():
        if value not in known[name]:
            raise ContrastError(f"{name}: '{value}' is not accepted; {nearest(value, known[name])}")
    top = 1.0 if chosen["combine"] == "convex" else float("inf")
    if not 0 <= soft_weight <= top:
        of = f"the range for combine='{chosen['combine']}'"
        raise ContrastError(f"soft_weight: {soft_weight} is not in [0, {top:g}], {of}")
    if tau_soft <= 0 or (not isinstance(tau, Tensor) and tau <= 0):
        raise ContrastError(f"temperatures must be positive: tau {tau}, tau_soft {tau_soft}")
