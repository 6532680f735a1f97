"""Contrast of paired embeddings: InfoNCE between two modalities, NT-Xent between two views, and both over many pairs;
what CyCLIP adds to CLIP's loss, and what CLOOB puts in its place; losses over rows and the instances they belong to.

Where instances may lack a modality, `present` says which rows have it; a pair is of the rows that have both, and its
loss weighs as `losses.rows` says. Shapes that differ, fewer than two rows and tau <= 0 raise ContrastError.

Shapes: B batch, N instances, D or P width, R = 2N rows; M modalities are list positions or names. Where rows are given
with their instances, P rows of modality a and Q of modality b.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.errors import ContrastError, nearest
from mmcontrast.losses.rows import (
    check_pair,
    cosine_logits,
    full_precision,
    number_instances,
    over_rows,
    shared_rows,
    unit_rows,
    upcast,
)
from mmcontrast.losses.supervised import label_cross_entropy

__all__ = [
    "cloob",
    "cmc",
    "cyclic_consistency",
    "info_nce",
    "mil_nce",
    "nt_xent",
    "paired_info_nce",
    "self_contrast",
    "siglip",
    "weighted_nt_xent",
]

Present = Mapping[str, Tensor]


@full_precision
def info_nce(a: Tensor, b: Tensor, tau: float | Tensor) -> Tensor:
    """1/2 [CE(S, i = i) + CE(S^T, i = i)], S = cos(a, b) / tau: each row finds its own partner among B.

    Source: the loss of CLIP (Radford et al., ICML 2021, figure 3), with a fixed temperature instead of a learned one.
    Scalar, >= 0; log B where all embeddings are alike. Symmetric in a and b.

    Args:
        a, b: (B, D), row k of one the partner of row k of the other; any scale. tau: temperature, > 0.

    Raises:
        ContrastError: shapes differ, B < 2 or tau <= 0.
    """
    check_pair(a, b, tau)
    logits_BB = cosine_logits(a, b, tau)
    own_B = torch.arange(len(logits_BB), device=logits_BB.device)
    return (label_cross_entropy(logits_BB, own_B) + label_cross_entropy(logits_BB.T, own_B)) / 2


def paired_info_nce(
    z: Mapping[str, Tensor], pairs: Sequence[tuple[str, str]], tau: float, present: Present | None = None
) -> Tensor:
    """Sum of `info_nce` over directed pairs, so that it is M3Co without mixing.

    Two modalities are therefore counted in both orders, as M3Co counts them.

    Args:
        z: modality -> (B, D). present: modality -> (B,) bool, of those that a row may lack.
    """
    has = present or {}
    loss = partial(info_nce, tau=tau)
    return torch.stack([over_rows(loss, shared_rows(has.get(a), has.get(b)), z[a], z[b]) for a, b in pairs]).sum()


@full_precision
def nt_xent(first: Tensor, second: Tensor, tau: float = 0.1) -> Tensor:
    """Mean over all 2N rows of -log( exp(s_ip / tau) / sum_{k != i} exp(s_ik / tau) ), s the cosine, p the partner.

    The denominator of a row holds its partner and the 2N-2 other rows of BOTH views. Identical embeddings give
    ln(2N-1). Source: SimCLR (Chen et al. 2020, eq. 1); it is the estimator of CoMM's released code.

    Args:
        first, second: the two views, row k of one the partner of row k of the other; any scale.
        tau: temperature, > 0.

    Raises:
        ContrastError: shapes differ, N < 2 or tau <= 0.
    """
    check_pair(first, second, tau)
    n = len(first)
    z_RD = unit_rows(torch.cat([first, second]))
    logits_RR = z_RD @ z_RD.T / tau
    self_RR = torch.eye(2 * n, dtype=torch.bool, device=z_RD.device)
    partner_R = torch.arange(2 * n, device=z_RD.device).roll(n)
    return F.cross_entropy(logits_RR.masked_fill(self_RR, -torch.inf), partner_R)


def cmc(
    embeddings: Sequence[Tensor],
    tau: float = 0.1,
    pair_loss: Callable[..., Tensor] = nt_xent,
    present: Sequence[Tensor | None] | None = None,
    anchor: int | None = None,
) -> Tensor:
    """Mean of a loss over all pairs of modalities. Source: Tian et al. 2020, full graph; NT-Xent as in CoMM's code.

    Args:
        embeddings: one (N, D) tensor per modality, at least two.
        tau: temperature, > 0.
        pair_loss: of two modalities' embeddings and tau; with `info_nce` it is CLIP's loss, over pairs.
        present: one (N,) bool per modality, None where all rows have it.
        anchor: position of the modality that every pair has; None = every pair there is.

    Raises:
        ContrastError: fewer than two modalities, shapes that differ, N < 2, tau <= 0.
    """
    if len(embeddings) < 2:
        raise ContrastError(f"contrast between modalities needs at least two, and got {len(embeddings)}")
    loss = partial(pair_loss, tau=tau)
    has = present or [None] * len(embeddings)
    pairs = [pair for pair in combinations(range(len(embeddings)), 2) if anchor is None or anchor in pair]
    terms = [over_rows(loss, shared_rows(has[i], has[j]), embeddings[i], embeddings[j]) for i, j in pairs]
    return torch.stack(terms).mean()


def self_contrast(
    views1: Sequence[Tensor], views2: Sequence[Tensor], tau: float = 0.1, present: Sequence[Tensor | None] | None = None
) -> Tensor:
    """Mean over modalities of `nt_xent` between two augmented views of the same modality (SimCLR in each of them).

    Args:
        views1, views2: one (N, D) tensor per modality from each augmentation.
        tau: temperature, > 0.
        present: one (N,) bool per modality, None where all rows have it.

    Raises:
        ContrastError: the lists differ in length or are empty, shapes differ, N < 2, tau <= 0.
    """
    if len(views1) != len(views2) or not views1:
        raise ContrastError(f"self contrast: {len(views1)} modalities in one view and {len(views2)} in the other")
    loss, has = partial(nt_xent, tau=tau), present or [None] * len(views1)
    return torch.stack([over_rows(loss, rows, a, b) for a, b, rows in zip(views1, views2, has, strict=True)]).mean()


@full_precision
def cyclic_consistency(a: Tensor, b: Tensor, within: float = 0.25, across: float = 0.25) -> Tensor:
    """within / N sum_ij (a_i.a_j - b_i.b_j)^2 + across / N sum_ij (a_i.b_j - b_i.a_j)^2, beside CLIP's loss. >= 0.

    a, b: (N, P), any scale. Source: Goel et al., "CyCLIP", NeurIPS 2022, as released (goel-shashank/CyCLIP).
    """
    check_pair(a, b, 1.0)
    a_NP, b_NP = unit_rows(a), unit_rows(b)
    across_NN = a_NP @ b_NP.T
    inside = (a_NP @ a_NP.T - b_NP @ b_NP.T).square().sum()
    between = (across_NN - across_NN.T).square().sum()
    return (within * inside + across * between) / len(a_NP)


@full_precision
def cloob(a: Tensor, b: Tensor, tau: float | Tensor = 1 / 30, beta: float = 8.0) -> Tensor:
    """tau ( LOOB(a of a, b of a) + LOOB(b of b, a of b) ): InfoLOOB on what rows retrieve from a store. Of any sign.

    a, b: (N, P), any scale. x of s is the unit mean of the rows of s, weighed by softmax(beta x.s); LOOB(x, y) = mean_i
    [ lse_{j != i} x_i.y_j / tau - x_i.y_i / tau ]. Source: Fuerst et al., "CLOOB", NeurIPS 2022, as released
    (ml-jku/cloob), where tau is 1 / 30, and a factor that the paper's formula has not.
    """
    check_pair(a, b, tau)
    a_NP, b_NP = unit_rows(a), unit_rows(b)

    def retrieved(x_NP: Tensor, store_NP: Tensor) -> Tensor:
        return unit_rows((beta * x_NP @ store_NP.T).softmax(dim=1) @ store_NP)

    def loob(x_NP: Tensor, y_NP: Tensor) -> Tensor:
        logits_NN = x_NP @ y_NP.T / tau
        self_NN = torch.eye(len(logits_NN), dtype=torch.bool, device=logits_NN.device)
        return (logits_NN.masked_fill(self_NN, -torch.inf).logsumexp(dim=1) - logits_NN.diagonal()).mean()

    return tau * (
        loob(retrieved(a_NP, a_NP), retrieved(b_NP, a_NP)) + loob(retrieved(b_NP, b_NP), retrieved(a_NP, b_NP))
    )


@full_precision
def mil_nce(
    a: Tensor, b: Tensor, ids_a: Tensor, ids_b: Tensor, *, tau: float | Tensor = 1.0, double_count: bool = False
) -> Tensor:
    """mean_i [ logsumexp(l(i, *) and l(*, i)) - logsumexp(l(i, i)) ], l(i, j) all pairs of a row of i and a row of j.

    Source: Miech et al., "End-to-End Learning of Visual Representations from Uncurated Instructional Videos", CVPR
    2020, eq. 1; the released code (antoine77340/MIL-NCE_HowTo100M) differs from the formula, see `double_count`.
    The original has one video and K texts an instance; here both sides may have several rows, in any order.

    Args:
        a, b: rows of each modality. The released code takes raw dot products: unnormalised rows and tau = 1.
        ids_a, ids_b: integer instance of each row; every instance needs a row in both.
        tau: temperature, > 0.
        double_count: the released code counts l(i, i) twice in the denominator, once from each side, so that its
            smallest value is ln 2; False counts it once, and the smallest value is 0.

    Raises:
        ContrastError: an instance has rows in one modality only, or there are no rows.
    """
    if len(a) == 0:
        raise ContrastError("MIL-NCE: a batch without rows leaves nothing to contrast")
    index_P, index_Q, n = number_instances(ids_a, ids_b)
    logits_PQ = a @ b.T / tau
    floor = torch.finfo(logits_PQ.dtype).min / 2
    own_PQ = index_P[:, None] == index_Q
    own_N = _logsumexp_by(logits_PQ.masked_fill(~own_PQ, floor).logsumexp(1), index_P, n)
    row_N = _logsumexp_by(logits_PQ.logsumexp(1), index_P, n)
    column_PQ = logits_PQ if double_count else logits_PQ.masked_fill(own_PQ, floor)
    column_N = _logsumexp_by(column_PQ.logsumexp(0), index_Q, n)
    return (torch.logaddexp(row_N, column_N) - own_N).mean()


def _logsumexp_by(x_P: Tensor, index_P: Tensor, n_instances: int) -> Tensor:
    """(N,) logsumexp of the entries of each instance; every instance has one."""
    peak_N = x_P.detach().new_full((n_instances,), -torch.inf).scatter_reduce(0, index_P, x_P.detach(), "amax")
    sum_N = x_P.new_zeros(n_instances).index_add(0, index_P, (x_P - peak_N[index_P]).exp())
    return sum_N.log() + peak_N


@full_precision
def siglip(
    a: Tensor, b: Tensor, ids_a: Tensor, ids_b: Tensor, *, scale: float | Tensor, bias: float | Tensor
) -> Tensor:
    """-(1 / P) sum_pq log sigmoid(y_pq (scale * a_p . b_q + bias)), y = 1 for two rows of one instance, else -1.

    Every pair of rows is its own yes-or-no question, so several positives need no normalisation.
    Source: Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023, eq. 1 and algorithm 1.
    With one row per side this is the paper's loss; positives beyond the diagonal follow from its labels.

    Args:
        a, b: unit rows of each modality.
        ids_a, ids_b: integer instance of each row.
        scale: the paper's t = exp(t'), starting at 10. bias: the paper's b, starting at -10. Both learned there.

    Raises:
        ContrastError: there are no rows.
    """
    if len(a) == 0 or len(b) == 0:
        raise ContrastError(f"SigLIP: {len(a)} and {len(b)} rows leave nothing to contrast")
    logits_PQ = scale * (a @ b.T) + bias
    sign_PQ = 2 * (ids_a[:, None] == ids_b).to(logits_PQ.dtype) - 1
    return -F.logsigmoid(sign_PQ * logits_PQ).sum() / len(a)


def weighted_nt_xent(z: Mapping[str, Tensor], weights: Mapping[str, float], *, tau: float | Tensor = 0.1) -> Tensor:
    """Sum over directions "x->y" of weight * mean_n CE(n, softmax_m(x_n . y_m / tau)), row n of both from one instance.

    Source: Ruan et al., "TriCoLo: Trimodal Contrastive Loss for Text to Shape Retrieval", WACV 2024. The versions of
    the released code (3dlg-hcvc/tricolo) disagree on the order of the arguments, hence on which direction gets 0.25:
    the current one weighs text -> image 0.25 and image -> text 0.75, the one of 2022 the reverse. So a weight here
    belongs to a direction by name, and no order of arguments decides anything.
    Two rows of the same instance are negatives of each other here, as they are in the original.

    Args:
        z: modality -> unit rows, row n of every modality from the same instance.
        weights: "image->text" -> weight; the first is the query, the softmax runs over the second. Directions that are
            not named are left out.
        tau: temperature, > 0.

    Raises:
        ContrastError: a direction names no modality that is there, none is given, the rows differ in shape, or
            there are none.
    """
    if not weights:
        raise ContrastError("weights: no direction given; give at least one, e.g. {'text->image': 0.25}")
    if len({tuple(x.shape) for x in z.values()}) != 1:
        raise ContrastError(f"rows differ in shape: { {k: list(z.shape) for k, z in z.items()} }")
    rows = next(iter(z.values()))
    if len(rows) == 0:
        raise ContrastError("a batch without rows leaves nothing to contrast")
    labels_N = torch.arange(len(rows), device=rows.device)
    known = [f"{x}->{y}" for x in z for y in z if x != y]
    terms = []
    with torch.autocast(rows.device.type, enabled=False):
        wide = {k: upcast(v) for k, v in z.items()}
        for direction, weight in weights.items():
            if direction not in known:
                raise ContrastError(f"weights: no direction '{direction}'; {nearest(direction, known)}")
            query, gallery = direction.split("->")
            terms.append(weight * F.cross_entropy(wide[query] @ wide[gallery].T / tau, labels_N))
        return torch.stack(terms).sum()
