"""Contrast that uses labels: embeddings of one class attract each other.

Shapes: N instances, V views of each, D width, R = V * N rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmcontrast.errors import ContrastError
from mmcontrast.losses.precision import full_precision
from mmcontrast.losses.rows import nothing
from mmcontrast.losses.similarity import check_pair, unit_rows

__all__ = ["supcon", "supcon_rows"]


def supcon(views: Sequence[Tensor], labels: Tensor, tau: float = 0.07) -> Tensor:
    """Mean over rows of -1/|P| sum_{p in P} log( exp(s_ip / tau) / sum_{k != i} exp(s_ik / tau) ).

    P: all other rows, of any view, with the row's label. Source: Khosla et al. 2020, eq. 2 (L_out); CoMM's
    fine-tuning takes it on the CLS embeddings of two augmented views.

    Args:
        views: at least two (N, D) tensors, row k of each from the same instance; any scale.
        labels: (N,) integer classes.
        tau: temperature, > 0.

    Raises:
        ContrastError: fewer than two views, shapes that differ, N < 2, tau <= 0.
    """
    if len(views) < 2:
        raise ContrastError(f"SupCon: needs at least two views of each instance, and got {len(views)}")
    for view_ND in views[1:]:
        check_pair(views[0], view_ND, tau)
    if labels.shape != (len(views[0]),):
        raise ContrastError(f"SupCon: {len(views[0])} instances, but labels of shape {tuple(labels.shape)}")
    return supcon_rows(torch.cat(list(views)), labels.repeat(len(views)), tau)


@full_precision
def supcon_rows(rows: Tensor, labels: Tensor, tau: float | Tensor = 0.07, total: int | None = None) -> Tensor:
    """`supcon` of rows in any order and any number per label: here, all observations of all modalities pooled.

    The released code (HobbitLong/SupContrast) multiplies by tau / base_tau, both 0.07 there; the factor is 1 here.

    Args:
        rows: any scale. labels: (R,) integers; every label stands on at least two rows. tau: > 0.
        total: where instances lack modalities, the rows there would be if none did. A row whose label stands on no
            other is then a negative alone, and the sum over the others is over `total`, as in `losses.rows`.

    Raises:
        ContrastError: a label stands on one row alone, which then has no positive, and `total` is not given.
    """
    _, label_R, count = torch.unique(labels, return_inverse=True, return_counts=True)
    lonely = count < 2
    if total is None and bool(lonely.any()):
        raise ContrastError(f"SupCon: {int(lonely.sum())} label(s) stand on one row alone, which has no positive")
    if bool(lonely.all()):
        return nothing(rows)
    z_RD = unit_rows(rows)
    self_RR = torch.eye(len(z_RD), dtype=torch.bool, device=z_RD.device)
    logits_RR = z_RD @ z_RD.T / tau
    log_denominator_R = logits_RR.masked_fill(self_RR, -torch.inf).logsumexp(dim=1)
    positive_RR = (labels[:, None] == labels[None, :]) & ~self_RR
    log_p_RR = logits_RR - log_denominator_R[:, None]
    mean_R = log_p_RR.masked_fill(~positive_RR, 0).sum(dim=1) / positive_RR.sum(dim=1).clamp(min=1)
    return -mean_R.mean() if total is None else -mean_R[~lonely[label_R]].sum() / total
