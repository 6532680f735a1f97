"""MultiSClip: contrast two modalities against soft targets that one of them sets.

Shapes: B batch, D width.
"""

from __future__ import annotations

from torch import Tensor

from mmcontrast.losses.cross_entropy import bidirectional_cross_entropy
from mmcontrast.losses.precision import full_precision
from mmcontrast.losses.similarity import check_pair, cosine_logits


@full_precision
def multisclip_pair(a_BD: Tensor, b_BD: Tensor, tau: float, detach_targets: bool = False) -> Tensor:
    """1/2 [CE(S, Q) + CE(S^T, Q)], S = cos(a, b) / tau, Q = row softmax of cos(b, b) / tau.

    Instances that resemble each other in modality b share the target mass, so that relations are many to many. Q serves
    both directions as it is, not transposed. Not symmetric in a and b. Scalar, >= 0.

    Source: M3CoL (Kumar et al., TMLR 2025), MultiSClip; the formula is that of the released code, and the paper's own
    equation could not be read.
    Where paper and released code differ: nothing known. The released code lets the gradient flow through Q, so the
    model can reshape its own targets; `detach_targets` stops that.

    Args:
        tau: one temperature for predictions and targets.

    Raises:
        ContrastError: shapes differ, B < 2 or tau <= 0.
    """
    check_pair(a_BD, b_BD, tau)
    targets_BB = cosine_logits(b_BD, b_BD, tau).softmax(dim=-1)
    if detach_targets:
        targets_BB = targets_BB.detach()
    return bidirectional_cross_entropy(cosine_logits(a_BD, b_BD, tau), targets_BB, targets_BB)
