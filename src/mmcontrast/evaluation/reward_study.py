"""Does the reward of a search predict the downstream score? Both over frozen settings and seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class RewardStudy:
    """How well a reward predicts the downstream score. See `study_reward`.

    Attributes:
        between: standard deviation of the settings' mean rewards. within: of the reward after removing the means of
            setting and seed, since a search compares settings of one seed, on the same draws.
        signal: (between^2 - within^2 / S) / (within^2 / S); 0 or less = the ranking is noise.
        rank_correlation: Spearman, over settings, of mean reward and mean downstream score; nan if either is constant.
    """

    between: float
    within: float
    signal: float
    rank_correlation: float


def study_reward(rewards: Array, downstream: Array) -> RewardStudy:
    """Compare reward and downstream score of frozen settings over seeds, before a search is trusted.

    Args:
        rewards, downstream: (n settings >= 2, S seeds >= 2).
    """
    if rewards.shape != downstream.shape or rewards.ndim != 2 or min(rewards.shape) < 2:
        raise ValueError("rewards and downstream must be (settings, seeds), two or more of each")
    n, s = rewards.shape
    left = rewards - rewards.mean(axis=1, keepdims=True) - rewards.mean(axis=0) + rewards.mean()
    within = float(np.sqrt((left**2).sum() / ((n - 1) * (s - 1))))
    between = float(rewards.mean(axis=1).std(ddof=1))
    chance = within**2 / s
    signal = (between**2 - chance) / chance if chance > 0 else (math.inf if between > 0 else 0.0)
    ranks = [_ranks(x.mean(axis=1)) for x in (rewards, downstream)]
    constant = any(np.ptp(r) == 0 for r in ranks)
    return RewardStudy(between, within, signal, math.nan if constant else float(np.corrcoef(np.stack(ranks))[0, 1]))


def _ranks(x: Array) -> Array:
    """Average ranks."""
    return ((x[:, None] > x).sum(1) + (x[:, None] >= x).sum(1) - 1) / 2
