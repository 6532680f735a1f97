"""NT-Xent, the symmetric contrastive loss over the 2N rows of two views.

Shapes: N instances, D width, R = 2N rows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.losses.precision import full_precision
from mmcontrast.losses.similarity import check_pair, unit_rows


@full_precision
def nt_xent(first_ND: Tensor, second_ND: Tensor, tau: float = 0.1) -> Tensor:
    """Mean over all 2N rows of -log( exp(s_ip / tau) / sum_{k != i} exp(s_ik / tau) ), s the cosine, p the partner.

    The denominator of a row holds its partner and the 2N-2 other rows of BOTH views. Identical embeddings give
    ln(2N-1). Source: SimCLR (Chen et al. 2020, eq. 1); it is the estimator of CoMM's released code.

    Args:
        first_ND, second_ND: the two views, row k of one the partner of row k of the other; any scale.
        tau: temperature, > 0.

    Raises:
        ContrastError: shapes differ, N < 2 or tau <= 0.
    """
    check_pair(first_ND, second_ND, tau)
    n = len(first_ND)
    z_RD = unit_rows(torch.cat([first_ND, second_ND]))
    logits_RR = z_RD @ z_RD.T / tau
    self_RR = torch.eye(2 * n, dtype=torch.bool, device=z_RD.device)
    partner_R = torch.arange(2 * n, device=z_RD.device).roll(n)
    return F.cross_entropy(logits_RR.masked_fill(self_RR, -torch.inf), partner_R)
