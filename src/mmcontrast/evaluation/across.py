"""Methods across datasets: interquartile means and mean ranks, where datasets have different numbers of seeds.

Every dataset weighs alike, however many seeds it has. Seeds are resampled within each dataset, the same ones for all
methods, since a seed is one draw of held-out cases, initial weights and batches for all of them.

Shapes: D datasets, S_d seeds of a dataset, K methods, R bootstrap replicates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from mmcontrast.errors import DataError
from mmcontrast.evaluation.statistics import GENERATOR_SEED, LEVEL, REPLICATES, Interval

Floats = NDArray[np.float64]


def weighted_iqm(values: Floats, weights: Floats) -> Floats:
    """Mean along the last axis of what lies between the weighted quartiles; a value on a quartile counts in part.

    Args:
        values: (..., N). weights: (N,) above 0. With equal weights, and N a multiple of 4, this is the mean of the
            middle half.
    """
    order = np.argsort(values, axis=-1, kind="stable")
    share = (weights / weights.sum())[order]
    upper = np.cumsum(share, axis=-1)
    inside = np.clip(np.minimum(upper, 0.75) - np.maximum(upper - share, 0.25), 0, None)
    found: Floats = (np.take_along_axis(values, order, axis=-1) * inside).sum(-1) / inside.sum(-1)
    return found


def interquartile_means(scores: Sequence[Floats]) -> list[Interval]:
    """Interquartile mean of each method's scores over seeds and datasets, with a 95 % stratified bootstrap interval.

    After Agarwal et al. (2021), Deep Reinforcement Learning at the Edge of the Statistical Precipice.

    Args:
        scores: (S_d, K) of each dataset, on one scale.

    Raises:
        DataError: there is no dataset or no seed, datasets differ in the number of methods, or a score is not finite.
    """
    k = _check(scores)
    weights = np.concatenate([np.full(len(s), 1 / len(s)) for s in scores])
    once = [s[None] for s in scores]
    means_K = weighted_iqm(np.concatenate(once, axis=1).transpose(0, 2, 1), weights)[0]
    draws_RKN = np.concatenate(_resampled(scores), axis=1).transpose(0, 2, 1)
    return _intervals(means_K, weighted_iqm(draws_RKN, weights), k, scores)


def mean_ranks(scores: Sequence[Floats]) -> list[Interval]:
    """Each method's rank by its mean score on a dataset, averaged over datasets, with a 95 % stratified interval.

    1 is the best; equal means share the mean of their ranks. Arguments and errors as `interquartile_means`.
    """
    k = _check(scores)
    once_K = np.mean([_ranks(s.mean(0)) for s in scores], axis=0)
    draws_RK = np.mean([_ranks(s.mean(1)) for s in _resampled(scores)], axis=0)
    return _intervals(once_K, draws_RK, k, scores)


def _ranks(means: Floats) -> Floats:
    # means of the same scores in another order may differ in the last bits
    found: Floats = rankdata(-np.round(means, 12), axis=-1)
    return found


def _resampled(scores: Sequence[Floats]) -> list[Floats]:
    """(R, S_d, K) of each dataset."""
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
