"""What the sample search of TupleInfoNCE maximises, and whether that is worth maximising.

Liu et al., ICCV 2021. Shapes: M held-out tuples, K modalities, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray


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
        sigma: noise trained with. levels: noises tested at. accuracies: fractions, one a level. scale: > 0.
    """
    if len(levels) != len(accuracies) or not levels or scale <= 0:
        raise ValueError("one accuracy a noise level, at least one level and a scale above 0 are needed")
    peak = levels[int(np.argmax(accuracies))]
    return 1 - ((sigma - peak) / scale) ** 2 + 1 - float(np.mean(accuracies))


@dataclass(frozen=True)
class RewardStudy:
    """Is the reward worth maximising? See `study_reward`.

    Attributes:
        between: standard deviation of the settings' mean rewards. within: of the reward over seeds, pooled.
        signal: between^2 less what within alone would give, over the same; 0 or less = the ranking is noise.
        rank_correlation: Spearman, over settings, of mean reward and mean downstream score; nan if either is constant.
    """

    between: float
    within: float
    signal: float
    rank_correlation: float


def study_reward(rewards: Array, downstream: Array) -> RewardStudy:
    """Reward and downstream score of frozen settings over seeds, before any search is believed.

    Args:
        rewards, downstream: (n settings >= 2, S seeds >= 2).
    """
    if rewards.shape != downstream.shape or rewards.ndim != 2 or min(rewards.shape) < 2:
        raise ValueError("rewards and downstream must be (settings, seeds), two or more of each")
    within = float(np.sqrt(rewards.var(axis=1, ddof=1).mean()))
    between = float(rewards.mean(axis=1).std(ddof=1))
    chance = within**2 / rewards.shape[1]
    signal = (between**2 - chance) / chance if chance > 0 else (math.inf if between > 0 else 0.0)
    ranks = [_ranks(x.mean(axis=1)) for x in (rewards, downstream)]
    constant = any(np.ptp(r) == 0 for r in ranks)
    return RewardStudy(between, within, signal, math.nan if constant else float(np.corrcoef(np.stack(ranks))[0, 1]))


def _ranks(x: Array) -> Array:
    """Average ranks."""
    return ((x[:, None] > x).sum(1) + (x[:, None] >= x).sum(1) - 1) / 2
