"""Cross-entropy with soft targets, in one direction and in both, and with class labels.

Shapes: B batch, C classes.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mmcontrast.errors import ContrastError
from mmcontrast.losses.precision import full_precision


@full_precision
def soft_cross_entropy(logits_BB: Tensor, targets_BB: Tensor) -> Tensor:
    """Mean over the rows i of -sum_j T[i, j] log softmax_j(S[i, :]).

    The rows of T need not sum to 1; a row weighs as much as its sum. Scalar, >= 0.

    Raises:
        ContrastError: the two are not square matrices of one size.
    """
    if logits_BB.ndim != 2 or logits_BB.shape[0] != logits_BB.shape[1] or logits_BB.shape != targets_BB.shape:
        raise ContrastError(
            f"soft cross-entropy needs square logits and targets of one size, and was given "
            f"{tuple(logits_BB.shape)} and {tuple(targets_BB.shape)}"
        )
    return -(targets_BB.to(logits_BB) * F.log_softmax(logits_BB, dim=-1)).sum(dim=-1).mean()


def bidirectional_cross_entropy(logits_BB: Tensor, row_targets_BB: Tensor, column_targets_BB: Tensor) -> Tensor:
    """Mean of the two directions of look-up: rows of S against the first targets, rows of S^T against the second.

    For targets P that pair row i with column j, the second argument is P^T: the columns of P as they are, whose
    sums differ, and which are not renormalised. Scalar, >= 0.
    """
    rows = soft_cross_entropy(logits_BB, row_targets_BB)
    columns = soft_cross_entropy(logits_BB.T, column_targets_BB)
    return (rows + columns) / 2


@full_precision
def label_cross_entropy(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Mean cross-entropy of class scores, natural logarithm, no smoothing. `labels_B`: int64 class indices."""
    return F.cross_entropy(logits_BC, labels_B)
