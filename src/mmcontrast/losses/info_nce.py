"""Symmetric InfoNCE between two modalities.

Shapes: B batch, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmcontrast.losses.cross_entropy import label_cross_entropy
from mmcontrast.losses.precision import full_precision
from mmcontrast.losses.similarity import check_pair, cosine_logits


@full_precision
def info_nce(a_BD: Tensor, b_BD: Tensor, tau: float | Tensor) -> Tensor:
    """1/2 [CE(S, i = i) + CE(S^T, i = i)], S = cos(a, b) / tau: each row finds its own partner among B.

    Source: the loss of CLIP (Radford et al., ICML 2021, figure 3), with a fixed temperature instead of a learned one.
    Scalar, >= 0; log B where all embeddings are alike. Symmetric in a and b.

    Raises:
        ContrastError: shapes differ, B < 2 or tau <= 0.
    """
    check_pair(a_BD, b_BD, tau)
    logits_BB = cosine_logits(a_BD, b_BD, tau)
    own_B = torch.arange(len(logits_BB), device=logits_BB.device)
    return (label_cross_entropy(logits_BB, own_B) + label_cross_entropy(logits_BB.T, own_B)) / 2
