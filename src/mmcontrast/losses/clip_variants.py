"""What CyCLIP adds to CLIP's loss, and what CLOOB puts in its place.

Shapes: N instances, P width; row k of one modality is the partner of row k of the other. Other shapes, N < 2 and tau <=
0 raise ContrastError.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmcontrast.losses.precision import full_precision
from mmcontrast.losses.similarity import check_pair, unit_rows

__all__ = ["cloob", "cyclic_consistency"]


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
