"""Cross-entropy with soft targets, in one direction and in both, and with class labels, as textbooks have it.

Shapes: B batch, C classes. Square logits and targets of two sizes raise ContrastError.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from mmcontrast.errors import ContrastError
from mmcontrast.losses.precision import full_precision

__all__ = ["bidirectional_cross_entropy", "label_cross_entropy", "mixed_label_loss", "soft_cross_entropy"]


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
