"""InfMasking's objective: CoMM's released terms, and one term per view of infinitely many masked draws.

Source: Wen, Dai et al., "InfMasking", NeurIPS 2025 (arXiv 2509.25270), as in the released code
(brightest66/InfMasking, losses/infmasking_loss.py); the bound is that of joint contrastive learning (Cai et al., 2020).

Shapes: N instances (of all ranks), T draws, P width. q: fused embedding of a view, k: those of its masked draws.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmcontrast.errors import ContrastError
from mmcontrast.losses.rows import check_pair, full_precision, unit_rows
from mmcontrast.methods.comm.loss import Present, comm_terms

__all__ = ["infinite_masking", "infmasking_loss"]


@full_precision
def infinite_masking(fused: Tensor, draws: Sequence[Tensor], tau: float = 0.1, strength: float = 1.0) -> Tensor:
    """mean_i [ lse(pos_i, NEG_i) - q_i.mu_i / tau ], pos_i = q_i.mu_i / tau + strength s_i / (2 tau^2). Scalar.

    mu_i and s_i: mean of row i's draws, not made unit again, and the variance of their cosines with q_i (divisor T).
    NEG_i: cosines over tau of q_i with all draws of the other rows, and with their q; (T + 1)(N - 1) of them.
    One draw, or strength 0: InfoNCE in one direction with further negatives. Nothing is detached.

    Args:
        fused: (N, P), any scale. draws: T tensors (N, P), any scale. tau: > 0. strength: lambda, >= 0.

    Raises:
        ContrastError: no draws, shapes that differ, N < 2 or tau <= 0.
    """
    if not draws:
        raise ContrastError("InfMasking: needs at least one masked draw for each view, and got none")
    for k_NP in draws:
        check_pair(fused, k_NP, tau)
    q_NP = unit_rows(fused)
    cosine_TNN = q_NP @ torch.stack([unit_rows(k_NP) for k_NP in draws]).transpose(1, 2)
    own_TN = cosine_TNN.diagonal(dim1=1, dim2=2)
    mean_N = own_TN.mean(dim=0)
    positive_N = mean_N / tau + strength * own_TN.var(dim=0, correction=0) / (2 * tau**2)
    logits_ZNN = torch.cat([cosine_TNN, (q_NP @ q_NP.T)[None]]) / tau
    self_NN = torch.eye(len(q_NP), dtype=torch.bool, device=q_NP.device)
    negative_N = logits_ZNN.masked_fill(self_NN, -torch.inf).logsumexp(dim=(0, 2))
    return (torch.logaddexp(positive_N, negative_N) - mean_N / tau).mean()


def infmasking_loss(
    views: Sequence[Sequence[Tensor]],
    draws: Sequence[Sequence[Tensor]],
    tau: float = 0.1,
    *,
    strength: float = 1.0,
    weights: Sequence[float] | None = None,
    present: Present = None,
) -> Tensor:
    """1 / (n + 3) times the weighted sum of two terms of masks and CoMM's n + 1 terms, n modalities. Scalar.

    The divisor is the number of terms whatever their weights, as in the released code. Left out: its penalty on the
    entropy, and draws of the other view, which no published run has.

    Args:
        views, present: as in `comm_terms`. draws: of each view T fused embeddings (N, P), masked.
        strength: lambda at this epoch, which is its full value times (epoch + 1) / epochs.
        weights: n + 3 factors; None = all 1.

    Raises:
        ContrastError: as `comm_terms` and `infinite_masking`.
    """
    n_terms = len(views[0]) + 2
    factors = [1.0] * n_terms if weights is None else list(weights)
    if len(factors) != n_terms:
        raise ContrastError(f"InfMasking: {len(factors)} term weights for {n_terms} terms (two of masks, then CoMM's)")
    masked = [infinite_masking(view[-1], of, tau, strength) for view, of in zip(views, draws, strict=True)]
    comm = comm_terms(views[0], views[1], tau, factors[2:], reduction="sum", present=present)
    return (factors[0] * masked[0] + factors[1] * masked[1] + comm.loss) / n_terms
