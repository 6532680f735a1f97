"""Several methods or settings: interquartile means and mean ranks over datasets, where these have different numbers of
seeds; changes of order; whether a search's reward predicts the score.

Every dataset weighs alike, however many seeds it has. Seeds are resampled within each dataset, the same ones for all
methods, since a seed is one draw of held-out cases, initial weights and batches for all of them.

Shapes: D datasets, S_d seeds of a dataset, K methods, R bootstrap replicates.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit
from scipy.stats import kendalltau, rankdata

from mmcontrast.errors import DataError
from mmcontrast.evaluation.statistics import GENERATOR_SEED, LEVEL, REPLICATES, TAIL, Interval

Floats = NDArray[np.float64]

AGREEMENT_REPLICATES = 1_000  # a tau each, without vectorising


def weighted_iqm(values: Floats, weights: Floats) -> Floats:
    """Mean along the last axis of what lies between the weighted quartiles; a value on a quartile counts in part.

    values: (..., N). weights: (N,) above 0. With equal weights, and N a multiple of 4, the mean of the middle half.
    """
    order = np.argsort(values, axis=-1, kind="stable")
    share = (weights / weights.sum())[order]
    upper = np.cumsum(share, axis=-1)
    inside = np.clip(np.minimum(upper, 0.75) - np.maximum(upper - share, 0.25), 0, None)
    found: Floats = (np.take_along_axis(values, order, axis=-1) * inside).sum(-1) / inside.sum(-1)
    return found


def interquartile_means(scores: Sequence[Floats]) -> list[Interval]:
    """Interquartile mean of each method's scores over seeds and datasets, with a 95 % stratified bootstrap interval.

    After Agarwal et al. (2021), Deep Reinforcement Learning at the Edge of the Statistical Precipice. A bootstrap over
    few seeds is too narrow: its percentiles are set off from the mean by sqrt(S / (S - 1)) and by the ratio of a t to a
    normal quantile, with the degrees of freedom of the half of the scores that is not trimmed (Tukey & McLaughlin,
    1963). scores: (S_d, K) of each dataset, on one scale.

    Raises DataError: no dataset or no seed, datasets that differ in the number of methods, or a score that is not
    finite.
    """
    k = _check(scores)
    weights = np.concatenate([np.full(len(s), 1 / len(s)) for s in scores])
    once = [s[None] for s in scores]
    means_K = weighted_iqm(np.concatenate(once, axis=1).transpose(0, 2, 1), weights)[0]
    draws_RKN = np.concatenate(_resampled(scores), axis=1).transpose(0, 2, 1)
    seeds, free = sum(len(s) for s in scores), sum(len(s) - 1 for s in scores)
    wider = np.sqrt(seeds / free) * stdtrit(free / 2, TAIL) / ndtri(TAIL) if free else 1.0
    return [
        Interval(m, *(m + wider * (end - m) for end in (low, high)))
        for m, low, high in (_intervals(means_K, weighted_iqm(draws_RKN, weights), k, scores))
    ]


def mean_ranks(scores: Sequence[Floats]) -> list[Interval]:
    """Each method's rank by its mean score on a dataset, averaged over datasets, and where 95 % of replicates lie.

    1 is the best; equal means share the mean of their ranks. The range is no interval for the rank of the true means:
    a rank jumps, and in simulations it covers 74 to 98 %. Arguments and errors as `interquartile_means`.
    """
    k = _check(scores)
    once_K = np.mean([_ranks(s.mean(0)) for s in scores], axis=0)
    draws_RK = np.mean([_ranks(s.mean(1)) for s in _resampled(scores)], axis=0)
    return _intervals(once_K, draws_RK, k, scores)


def rank_agreement(a: Floats, b: Floats) -> Interval:
    """Kendall's tau-b of K methods' means by two scores, such as validation and test, and where 95 % of replicates lie.

    a, b: (S, K) of the same seeds, of which replicates draw the same ones for both; K of at least 2.
    Raises DataError: the shapes differ, there are fewer than two methods, or a score is not finite.
    """
    if a.shape != b.shape or _check([a, b]) < 2:
        raise DataError(f"rank agreement takes two tables of equal shape, two methods or more: {a.shape}, {b.shape}")
    draws = np.random.default_rng(GENERATOR_SEED).integers(0, len(a), (AGREEMENT_REPLICATES, len(a)))
    tau = float(kendalltau(_ranks(a.mean(0)), _ranks(b.mean(0))).statistic)
    if len(a) == 1:
        return Interval(tau, float("nan"), float("nan"))
    pairs = zip(_ranks(a[draws].mean(1)), _ranks(b[draws].mean(1)), strict=True)
    low, high = np.nanquantile([kendalltau(x, y).statistic for x, y in pairs], [1 - TAIL, TAIL])
    return Interval(tau, float(low), float(high))


class Reversal(NamedTuple):
    """How often a change of one method reverses its order with others: shares of (replicates x other methods).

    Attributes:
        changed: order of the changed method, against that of the method as it is on the same seeds.
        seeds: order of the method as it is, against that on other draws of its seeds: what chance alone reverses.
        pairs: other methods.
    """

    changed: float
    seeds: float
    pairs: int


def reversals(own_S: Floats, changed_S: Floats, others_SK: Floats, sign: int = 1) -> Reversal:
    """What a switch of one method is worth in ranks: bootstrap over seeds, the same ones for all methods.

    own_S, changed_S: scores without and with the switch. others_SK: of the methods it is ranked with, same seeds. sign:
    1 where larger is better, else -1; an order is the sign of a difference of means, 0 where they are equal.
    Raises DataError: the numbers of seeds differ, there is no other method, or a score is not finite.
    """
    if not len(own_S) == len(changed_S) == len(others_SK) or not others_SK.shape[1]:
        raise DataError(
            f"reversals: scores of the same seeds and at least one other method are needed, and there are "
            f"{len(own_S)} and {len(changed_S)} seeds, and others of shape {others_SK.shape}"
        )
    _check([np.column_stack([own_S, changed_S, others_SK])])
    generator = np.random.default_rng(GENERATOR_SEED)
    first_RS, second_RS = (generator.integers(0, len(own_S), (REPLICATES, len(own_S))) for _ in range(2))

    def order(of_S: Floats, draws_RS: NDArray[np.int64]) -> Floats:
        apart_RK = of_S[draws_RS].mean(1)[:, None] - others_SK[draws_RS].mean(1)
        found: Floats = np.sign(sign * np.round(apart_RK, 12))
        return found

    was = order(own_S, first_RS)
    changed, by_seeds = (
        float((was * order(of, draws) < 0).mean()) for of, draws in ((changed_S, first_RS), (own_S, second_RS))
    )
    return Reversal(changed, by_seeds, others_SK.shape[1])


def _ranks(means: Floats) -> Floats:
    # means of the same scores in another order may differ in the last bits
    found: Floats = rankdata(-np.round(means, 12), axis=-1)
    return found


def _resampled(scores: Sequence[Floats]) -> list[Floats]:
    generator = np.random.default_rng(GENERATOR_SEED)
    return [s[generator.integers(0, len(s), (REPLICATES, len(s)))] for s in scores]


def _intervals(means_K: Floats, draws_RK: Floats, k: int, scores: Sequence[Floats]) -> list[Interval]:
    if all(len(s) == 1 for s in scores):
        return [Interval(float(m), float("nan"), float("nan")) for m in means_K]
    low_K, high_K = np.quantile(draws_RK, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return [Interval(float(means_K[i]), float(low_K[i]), float(high_K[i])) for i in range(k)]


def _check(scores: Sequence[Floats]) -> int:
    if not scores or any(s.ndim != 2 or 0 in s.shape for s in scores):
        raise DataError("means across datasets need at least one dataset, seed and method")
    if len({s.shape[1] for s in scores}) > 1:
        raise DataError(f"means across datasets: other numbers of methods by dataset, {[s.shape[1] for s in scores]}")
    if not all(np.isfinite(s).all() for s in scores):
        raise DataError("means across datasets: a score is not finite")
    return int(scores[0].shape[1])


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


def study_reward(rewards: Floats, downstream: Floats) -> RewardStudy:
    """Compare reward and downstream score, (n settings >= 2, S seeds >= 2) each, before a search is trusted."""
    if rewards.shape != downstream.shape or rewards.ndim != 2 or min(rewards.shape) < 2:
        raise ValueError("rewards and downstream must be (settings, seeds), two or more of each")
    n, s = rewards.shape
    left = rewards - rewards.mean(axis=1, keepdims=True) - rewards.mean(axis=0) + rewards.mean()
    within = float(np.sqrt((left**2).sum() / ((n - 1) * (s - 1))))
    between = float(rewards.mean(axis=1).std(ddof=1))
    chance = within**2 / s
    signal = (between**2 - chance) / chance if chance > 0 else (math.inf if between > 0 else 0.0)
    ranks = [rankdata(x.mean(axis=1)) for x in (rewards, downstream)]
    constant = any(np.ptp(r) == 0 for r in ranks)
    return RewardStudy(between, within, signal, math.nan if constant else float(np.corrcoef(np.stack(ranks))[0, 1]))
