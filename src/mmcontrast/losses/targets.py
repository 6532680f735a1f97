"""The supervised loss of each kind of label: of one class, of several labels at once, of numbers; as in textbooks.

Shapes: B batch, C classes, labels or quantities.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from mmcontrast.errors import ContrastError
from mmcontrast.losses.cross_entropy import label_cross_entropy
from mmcontrast.losses.precision import full_precision

__all__ = ["label_binary_cross_entropy", "label_squared_error"]


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
