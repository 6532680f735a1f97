"""Uncertainty of scores: bootstrap intervals, paired differences, many comparisons, means across datasets.

Every draw comes from a generator of our own with a fixed seed, so that equal scores give equal intervals.

Shapes: S seeds, D datasets, N test instances, C classes, R bootstrap replicates.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from mmcontrast.errors import DataError
from mmcontrast.evaluation.scores import weighted_scores

Floats = NDArray[np.float64]
K = TypeVar("K", bound=Hashable)

LEVEL = 0.95
REPLICATES = 10_000
GENERATOR_SEED = 20_240_917
TRIMMED = 0.25
CHUNK_WEIGHTS = 1 << 22


class Interval(NamedTuple):
    """A mean and the ends of its interval; the ends are NaN where there is nothing to resample."""

    mean: float
    low: float
    high: float


class Difference(NamedTuple):
    """Mean of a - b over the n seeds both have, its interval, and the p value of a paired t-test (or NaN)."""

    mean: float
    low: float
    high: float
    p: float
    n: int


def _percentiles(mean: float, draws_R: Floats) -> Interval:
    low, high = np.quantile(draws_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(mean), float(low), float(high))


def over_seeds(values_S: Floats) -> Interval:
    """Mean of the seeds' scores with its 95 % percentile bootstrap interval.

    One seed has no interval: its ends are NaN.

    Raises:
        DataError: there is no value, or one is not finite.
    """
    values_S = _finite(np.asarray(values_S, dtype=float))
    s = len(values_S)
    if s == 1:
        return Interval(float(values_S[0]), float("nan"), float("nan"))
    draws_RS = np.random.default_rng(GENERATOR_SEED).integers(0, s, (REPLICATES, s))
    return _percentiles(values_S.mean(), values_S[draws_RS].mean(1))


def case_weights(labels: NDArray, generator: np.random.Generator, replicates: int) -> Floats:
    """(R, N) how often each case is drawn when as many as there are of each class are drawn with replacement.

    Args:
        labels: (N,) class indices; of (N, C) labels or numbers, which make no classes, as many as there are cases.
    """
    labels_N = labels if labels.ndim == 1 else np.zeros(len(labels), dtype=np.int64)
    weights_RN = np.zeros((replicates, len(labels_N)))
    for c in np.unique(labels_N):
        members = np.flatnonzero(labels_N == c)
        draws = generator.integers(0, len(members), (replicates, len(members)))
        flat = draws + np.arange(replicates)[:, None] * len(members)
        counts = np.bincount(flat.ravel(), minlength=replicates * len(members))
        weights_RN[:, members] = counts.reshape(replicates, len(members))
    return weights_RN


def _weight_chunks(labels: NDArray, generator: np.random.Generator) -> Iterator[Floats]:
    step = max(1, CHUNK_WEIGHTS // len(labels))
    for start in range(0, REPLICATES, step):
        yield case_weights(labels, generator, min(step, REPLICATES - start))


def over_seeds_and_cases(
    labels: NDArray, probs_by_metric_SNC: Mapping[str, NDArray], weights_N: Floats | None = None
) -> dict[str, Interval]:
    """Mean over seeds of each metric, with a 95 % percentile bootstrap interval over seeds and test instances.

    A replicate draws seeds with replacement, and test instances with replacement, within each class where labels are
    classes; the same cases for all seeds, since they were all tested on the same ones, and for all metrics.

    Args:
        labels: of the test instances; see `evaluation.scores`.
        probs_by_metric_SNC: metric -> probabilities; by metric, because `optimistic` takes another epoch for each.
            Of a single seed only the cases are resampled.
        weights_N: what each case counts whenever it is drawn; None = all count alike.
    """
    generator = np.random.default_rng(GENERATOR_SEED)
    once_1N = np.ones((1, len(labels))) if weights_N is None else weights_N[None]
    draws: dict[str, list[Floats]] = {m: [] for m in probs_by_metric_SNC}
    for weights_RN in _weight_chunks(labels, generator):
        s = len(next(iter(probs_by_metric_SNC.values())))
        seeds_RS = generator.integers(0, s, (len(weights_RN), s))
        for metric, probs_SNC in probs_by_metric_SNC.items():
            scores_RS = weighted_scores(metric, labels, probs_SNC, weights_RN * once_1N)
            draws[metric].append(np.take_along_axis(scores_RS, seeds_RS, axis=1).mean(1))
    return {
        metric: _percentiles(weighted_scores(metric, labels, probs_SNC, once_1N).mean(), np.concatenate(draws[metric]))
        for metric, probs_SNC in probs_by_metric_SNC.items()
    }


def over_seeds_and_weighted_cases(
    labels_N: NDArray, parts_by_key: Mapping[K, list[tuple[Floats, Floats]]]
) -> dict[K, Interval]:
    """As `over_seeds_and_cases`, of scores that are sums of means over what the cases have, such as their queries.

    Args:
        labels_N: class indices of the cases; cases are drawn within each class.
        parts_by_key: score -> its parts, each ((S, N) sum of the values of a case's items, (N,) number of its items);
            the score is the sum over parts of (sum over cases) / (number of items).
    """
    generator = np.random.default_rng(GENERATOR_SEED)
    draws: dict[K, list[Floats]] = {key: [] for key in parts_by_key}
    s = len(next(iter(parts_by_key.values()))[0][0])
    for weights_RN in _weight_chunks(labels_N, generator):
        seeds_RS = generator.integers(0, s, (len(weights_RN), s))
        for key, parts in parts_by_key.items():
            scores_RS = sum((weights_RN @ sums_SN.T) / (weights_RN @ count_N)[:, None] for sums_SN, count_N in parts)
            draws[key].append(np.take_along_axis(np.asarray(scores_RS), seeds_RS, axis=1).mean(1))
    means = {k: sum((sums.sum(1) / n.sum()).mean() for sums, n in parts) for k, parts in parts_by_key.items()}
    return {key: _percentiles(float(means[key]), np.concatenate(draws[key])) for key in parts_by_key}


def paired_difference(a: Mapping[int, float], b: Mapping[int, float]) -> Difference:
    """a - b by seed: mean, 95 % bootstrap interval over seeds, and the p value of a two-sided paired t-test.

    One seed has no interval (its ends are NaN). p is NaN where it means nothing: fewer than two seeds, or differences
    that do not vary; where every difference is zero it is 1.

    Args:
        a, b: seed -> score.

    Raises:
        DataError: they share no seed, or a score is not finite.
    """
    seeds = sorted(set(a) & set(b))
    if not seeds:
        raise DataError(f"a paired difference needs a common seed, and there is none in {sorted(a)} and {sorted(b)}")
    differences_S = np.array([a[s] for s in seeds]) - np.array([b[s] for s in seeds])
    interval = over_seeds(differences_S)
    spread = float(np.ptp(differences_S))
    if spread > 1e-12 and len(seeds) > 1:
        t = interval.mean / (differences_S.std(ddof=1) / np.sqrt(len(seeds)))
        p = float(2 * stdtr(len(seeds) - 1, -abs(t)))
    else:
        p = 1.0 if len(seeds) > 1 and abs(interval.mean) <= 1e-12 else float("nan")
    return Difference(*interval, p, len(seeds))


def holm(p_values: Floats) -> Floats:
    """p values corrected by Holm's step-down method for the number of those that are not NaN; a NaN stays one."""
    p_values = np.asarray(p_values, dtype=float)
    out = np.full(len(p_values), np.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    factors = len(order) - np.arange(len(order))
    out[order] = np.minimum(1.0, np.maximum.accumulate(p_values[order] * factors)) if len(order) else []
    return out


def _interquartile_mean(values: Floats) -> Floats:
    """Mean along the last axis without the lowest and the highest quarter (rounded down) of the values."""
    cut = int(TRIMMED * values.shape[-1])
    return np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut].mean(-1)


def iqm(matrix_SD: Floats) -> Interval:
    """Interquartile mean of all scores, with a 95 % interval from resampling the seeds of each dataset apart.

    After Agarwal et al. (2021), Deep Reinforcement Learning at the Edge of the Statistical Precipice.

    Raises:
        DataError: the matrix is empty, or a score is not finite.
    """
    matrix_SD = np.asarray(matrix_SD, dtype=float)
    _finite(matrix_SD.ravel())
    s, d = matrix_SD.shape
    mean = float(_interquartile_mean(matrix_SD.ravel()))
    if s == 1:
        return Interval(mean, float("nan"), float("nan"))
    draws_RSD = np.random.default_rng(GENERATOR_SEED).integers(0, s, (REPLICATES, s, d))
    resampled = np.take_along_axis(np.broadcast_to(matrix_SD, draws_RSD.shape), draws_RSD, axis=1)
    return _percentiles(mean, _interquartile_mean(resampled.reshape(REPLICATES, s * d)))


def _finite(values: Floats) -> Floats:
    if values.size == 0:
        raise DataError("no scores to take a mean of")
    if not np.isfinite(values).all():
        raise DataError(f"a score is not finite: {values.tolist()}")
    return values
