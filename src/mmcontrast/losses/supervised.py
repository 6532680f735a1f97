"""Losses that use labels, or soft targets: cross-entropies, errors of each kind of label as textbooks have it, SupCon.

Shapes: B batch, C classes, labels or quantities; N instances, V views of each, D width, R = V * N rows. Logits and
targets of two sizes raise ContrastError.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.errors import ContrastError
from mmcontrast.losses.rows import check_pair, full_precision, nothing, unit_rows

__all__ = [
    "bidirectional_cross_entropy",
    "label_binary_cross_entropy",
    "label_cross_entropy",
    "label_squared_error",
    "mixed_label_loss",
    "soft_cross_entropy",
    "supcon",
    "supcon_rows",
]


@full_precision
def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over the rows i of -sum_j T[i, j] log softmax_j(S[i, :]).

    The rows of T need not sum to 1; a row weighs as much as its sum. Scalar, >= 0.

    Raises:
        ContrastError: the two are not square matrices of one size.
    """
    if logits.ndim != 2 or logits.shape[0] != logits.shape[1] or logits.shape != targets.shape:
        raise ContrastError(
            f"soft cross-entropy needs square logits and targets of one size, and was given "
            f"{tuple(logits.shape)} and {tuple(targets.shape)}"
        )
    return -(targets.to(logits) * F.log_softmax(logits, dim=-1)).sum(dim=-1).mean()


def bidirectional_cross_entropy(logits: Tensor, row_targets: Tensor, column_targets: Tensor) -> Tensor:
    """Mean of the two directions of look-up: rows of S against the first targets, rows of S^T against the second.

    For targets P that pair row i with column j, the second argument is P^T: the columns of P as they are, whose
    sums differ, and which are not renormalised. Scalar, >= 0.
    """
    rows = soft_cross_entropy(logits, row_targets)
    columns = soft_cross_entropy(logits.T, column_targets)
    return (rows + columns) / 2


@full_precision
def label_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of class scores, natural logarithm, no smoothing. `labels`: int64 class indices."""
    return F.cross_entropy(logits, labels)


def mixed_label_loss(
    scores: Tensor,
    labels: Tensor,
    partner_labels: Tensor,
    weight: float,
    loss: Callable[[Tensor, Tensor], Tensor] = label_cross_entropy,
) -> Tensor:
    """weight L(scores, own label) + (1 - weight) L(scores, the partner's label). Scalar, >= 0.

    Source: mixup (Zhang et al., ICLR 2018), in the linear form that equals cross-entropy against the mixed label. So it
    does for several labels at once; of a squared error it has the gradient of that against the mixed number.
    """
    own = loss(scores, labels)
    return weight * own + (1 - weight) * loss(scores, partner_labels)


@full_precision
def label_binary_cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean over rows and labels of -y log sigmoid(s) - (1 - y) log sigmoid(-s), natural logarithm. Scalar, >= 0.

    Args:
        scores: (B, C), without sigmoid. labels: (B, C) of 0 and 1, or between them where labels are mixed.

    Raises:
        ContrastError: the two are of other shapes.
    """
    _refuse_other_shapes(scores, labels)
    return F.binary_cross_entropy_with_logits(scores, labels.to(scores))


@full_precision
def label_squared_error(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean over rows and quantities of (s - y)^2. Scalar, >= 0.

    Args:
        scores: (B, C). labels: (B, C), in training standardised by the training rows, so that each quantity weighs
            alike whatever its unit.

    Raises:
        ContrastError: the two are of other shapes.
    """
    _refuse_other_shapes(scores, labels)
    return F.mse_loss(scores, labels.to(scores))


def _refuse_other_shapes(scores: Tensor, labels: Tensor) -> None:
    # broadcasting would give a number that means nothing
    if scores.shape != labels.shape:
        raise ContrastError(
            f"a score is needed for each label, and scores are {tuple(scores.shape)}, labels {tuple(labels.shape)}"
        )


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "classes": label_cross_entropy,
    "multilabel": label_binary_cross_entropy,
    "regression": label_squared_error,
}


def target_loss(kind: str) -> Callable[[Tensor, Tensor], Tensor]:
    """(scores (B, C), labels) -> scalar, of the labels that a batch has for this kind of target."""
    return LOSSES[kind]


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
