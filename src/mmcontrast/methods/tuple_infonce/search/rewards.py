"""What the sample search of TupleInfoNCE maximises; `evaluation.reward_study` asks whether it predicts the score.

Liu et al., ICCV 2021. Shapes: M held-out tuples, K modalities, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def crossmodal_accuracy(queries: Sequence[Tensor], candidates: Sequence[Tensor]) -> list[float]:
    """A^k: how often modality k alone finds its own tuple without modality k, among all of them.

    Args:
        queries: K tensors (M, D): row n is g(v^k_n), the (augmented) modality k alone.
        candidates: K tensors (M, D): row n is g of tuple n without modality k.

    Returns:
        K fractions in [0, 1]; chance is 1 / M, which is also what a collapsed encoder gets.
    """
    if len(queries) != len(candidates) or any(q.shape != c.shape for q, c in zip(queries, candidates, strict=True)):
        raise ValueError("each modality needs as many candidates as queries, of one width")
    out = []
    for q_MD, c_MD in zip(queries, candidates, strict=True):
        hit_M = (q_MD @ c_MD.T).argmax(1) == torch.arange(len(q_MD), device=q_MD.device)
        out.append(hit_M.double().mean().item())
    return out


def alpha_reward(accuracies: Sequence[float]) -> float:
    """R(alpha) = sum over modalities of A^k."""
    return float(sum(accuracies))


def beta_reward(sigma: float, levels: Sequence[float], accuracies: Sequence[float], scale: float) -> float:
    """R(beta): the noise trained with should be the one the encoder is best at, and keep little of what is shared.

    1 - (sigma / scale - peak / scale)^2 + 1 - mean(accuracies); peak is the first of the levels with the highest
    accuracy. This is the released form (there with scale 250, levels 30, 60, ..., 240 and percent); the paper's own
    formula is not known.

    Args:
        sigma: noise trained with. levels: noises tested at. accuracies: fractions, one per level. scale: > 0.
    """
    if len(levels) != len(accuracies) or not levels or scale <= 0:
        raise ValueError("one accuracy a noise level, at least one level and a scale above 0 are needed")
    peak = levels[int(np.argmax(accuracies))]
    return 1 - ((sigma - peak) / scale) ** 2 + 1 - float(np.mean(accuracies))
