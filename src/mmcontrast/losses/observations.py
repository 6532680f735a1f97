"""Losses over rows and the instances they belong to, with one or several observations per instance; scalars.

Shapes: P rows of modality a, Q rows of modality b, N instances, D width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.errors import ContrastError, nearest
from mmcontrast.losses.rows import full_precision, number_instances, upcast

__all__ = ["mil_nce", "siglip", "weighted_nt_xent"]


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
