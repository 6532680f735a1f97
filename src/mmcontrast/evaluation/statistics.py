"""Uncertainty of scores: intervals over seeds and test instances, paired differences, and tests of several of them.

An interval is called 95 % where simulations of its case cover 93 to 97 % at 3, 5 and 10 seeds (tests/evaluation/
test_coverage.py). A percentile bootstrap over so few seeds covers 75 to 90 %; it is used for what has no variance to
estimate: interquartile means and ranks (`evaluation.across`).

Every interval of a share is symmetric in log odds, over seeds as over seeds and instances, so that it lies within
[0, 1] and one scale serves both. Symmetric in points it covers 89 to 94 % at shares of 97 to 99 %, in log odds 93 to
96 %; where single seeds fall far from such a share, 90 %. At 0 and 1 no seed differs, and the interval is that point.
Differences, and scores that are no shares of 1, have intervals symmetric in their own unit.

Shapes: S seeds, N test instances or groups of them, C classes, R sets of case weights.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, stdtr, stdtrit

from mmcontrast.errors import DataError
from mmcontrast.evaluation.scores import weighted_scores

Floats = NDArray[np.float64]

LEVEL = 0.95
TAIL = (1 + LEVEL) / 2
REPLICATES = 10_000
GENERATOR_SEED = 20_240_917
MOST_GROUPS = 2_000  # of test instances; a larger test split is taken in as many groups
STEP = 1e-3  # of a case's weight, whose derivative is taken
CHUNK_WEIGHTS = 1 << 22
SMALL = 1e-12


class Interval(NamedTuple):
    """A mean and the ends of its interval; the ends are NaN where nothing varies by chance that could be seen."""

    mean: float
    low: float
    high: float


class Difference(NamedTuple):
    """Mean of a - b over the n seeds both have, its interval, and the p value of its t-test (or NaN)."""

    mean: float
    low: float
    high: float
    p: float
    n: int


class Sample(NamedTuple):
    """What somebody printed of n runs: their mean and their standard deviation."""

    mean: float
    sd: float
    n: int


def over_seeds(values_S: Floats, share: bool = False) -> Interval:
    """Mean of the seeds' scores with its 95 % t interval; a single seed has none. share: of 1, see the module.

    Raises DataError: there is no value, or one is not finite.
    """
    values_S = _finite(np.asarray(values_S, dtype=float))
    s, mean = len(values_S), float(values_S.mean())
    if s == 1:
        return Interval(mean, float("nan"), float("nan"))
    return _around(mean, float(stdtrit(s - 1, TAIL) * values_S.std(ddof=1) * np.sqrt(1 / s)), share)


def _around(mean: float, half: float, share: bool) -> Interval:
    """The interval of a half-width in points, in log odds where the score is a share."""
    if share and SMALL < mean < 1 - SMALL:
        odds, half = logit(mean), half / (mean * (1 - mean))
        return Interval(mean, float(expit(odds - half)), float(expit(odds + half)))
    return Interval(mean, mean - half, mean + half)


def paired_difference(a: Mapping[int, float], b: Mapping[int, float]) -> Difference:
    """a - b by seed: mean, 95 % t interval, and p of the two-sided paired t-test, below 0.05 where it excludes 0.

    p is NaN where it means nothing: fewer than two seeds, or differences that do not vary; where all are zero it is 1.
    a, b: seed -> score. Raises DataError: they share no seed, or a score is not finite.
    """
    seeds = sorted(set(a) & set(b))
    if not seeds:
        raise DataError(f"a paired difference needs a common seed, and there is none in {sorted(a)} and {sorted(b)}")
    differences_S = np.array([a[s] for s in seeds]) - np.array([b[s] for s in seeds])
    interval, n = over_seeds(differences_S), len(seeds)
    if n > 1 and np.ptp(differences_S) > SMALL:
        p = _two_sided(interval.mean, differences_S.std(ddof=1) * np.sqrt(1 / n), n - 1)
    else:
        p = 1.0 if n > 1 and abs(interval.mean) <= SMALL else float("nan")
    return Difference(*interval, p, n)


def welch(values_S: Floats, other: Sample) -> Difference:
    """Mean of our scores minus that of other runs: its 95 % interval and p by Welch's t-test; n is ours.

    Raises DataError: fewer than two runs on a side, or a score or the other's mean or sd is not finite.
    """
    values_S = _finite(np.append(values_S, [other.mean, other.sd]))[:-2]
    s = len(values_S)
    if min(s, other.n) < 2:
        raise DataError(f"two samples are compared from two runs each on, and there are {s} and {other.n}")
    mean = float(values_S.mean()) - other.mean
    ours, theirs = values_S.var(ddof=1) / s, other.sd**2 / other.n
    variance = float(ours + theirs)
    if variance <= SMALL**2:
        return Difference(mean, mean, mean, 1.0 if abs(mean) <= SMALL else 0.0, s)
    df = variance**2 / (ours**2 / (s - 1) + theirs**2 / (other.n - 1))
    half = float(stdtrit(df, TAIL) * np.sqrt(variance))
    return Difference(mean, mean - half, mean + half, _two_sided(mean, np.sqrt(variance), df), s)


def _two_sided(mean: float, error: float, df: float) -> float:
    return float(2 * stdtr(df, -abs(mean / error)))


def case_influence(metric: str, labels: NDArray, outputs_SNC: NDArray, weights_N: Floats | None = None) -> Floats:
    """(S, N) how much each test instance moves each seed's score, class by class; of many, how much groups of them do.

    Derivatives of the score by the weight of a case, less their mean over the cases of its class, scaled so that the
    squares of a seed's sum to the variance that other test instances would give its score (infinitesimal jackknife,
    stratified by class). The same cases are a group for every cell of a dataset.
    labels, outputs_SNC: see `evaluation.scores`. weights_N: what each case counts whenever it is drawn; None = all
    alike.
    """
    strata_N = labels if labels.ndim == 1 else np.zeros(len(labels), dtype=np.int64)
    group_N = _groups(strata_N)
    outputs, groups = np.asarray(outputs_SNC), int(group_N.max()) + 1
    weights_N = np.ones(len(labels)) if weights_N is None else weights_N
    base_S = weighted_scores(metric, labels, outputs, weights_N[None])[0]
    slopes, rows = [], max(1, CHUNK_WEIGHTS // len(labels))
    for start in range(0, groups, rows):
        chunk = np.arange(start, min(start + rows, groups))
        weights_RN = weights_N * (1 + STEP * (group_N == chunk[:, None]))
        slopes.append((weighted_scores(metric, labels, outputs, weights_RN) - base_S) / STEP)
    return centred_by_class(strata_N, group_N, np.concatenate(slopes).T)


def _groups(strata_N: NDArray) -> NDArray[np.int64]:
    """(N,) group of each case: itself, or one of about MOST_GROUPS, of which each is within a class."""
    group_N, first = np.empty(len(strata_N), dtype=np.int64), 0
    for c in np.unique(strata_N):
        members = np.flatnonzero(strata_N == c)
        n = min(len(members), max(2, MOST_GROUPS * len(members) // len(strata_N)))
        group_N[members] = first + np.arange(len(members)) % n
        first += n
    return group_N


def centred_by_class(strata_N: NDArray, group_N: NDArray[np.int64], slopes_SG: Floats) -> Floats:
    """(S, G) slopes of groups less what their class has on average, scaled for its number of groups."""
    size_G = np.bincount(group_N)
    class_G = np.empty(len(size_G), dtype=strata_N.dtype)
    class_G[group_N] = strata_N
    out = np.zeros_like(slopes_SG)
    for c in np.unique(strata_N):
        of = np.flatnonzero(class_G == c)
        if len(of) > 1:
            mean_S1 = slopes_SG[:, of].sum(1, keepdims=True) / size_G[of].sum()
            out[:, of] = (slopes_SG[:, of] - mean_S1 * size_G[of]) * np.sqrt(len(of) / (len(of) - 1))
    return out


def over_seeds_and_cases(values_S: Floats, influence_SN: Floats, share: bool = False) -> Interval:
    """Mean over seeds with its 95 % interval for other seeds and other test instances.

    All seeds are scored on the same instances. The variance of the mean has a part of the seeds, s^2 / S, and a part of
    the instances: the squares of their mean influence, less what the seeds' part counts already, the chance by which an
    instance goes well with a seed. The half-width is a t quantile of the sum, with Satterthwaite's degrees of freedom,
    and never less than that over seeds alone. Of a single seed only the instances are taken to vary.
    influence_SN: see `case_influence`; of a difference, the difference of the two cells'. share: of 1, see above.
    Raises DataError: there is no value, or one is not finite.
    """
    values_S = _finite(np.asarray(values_S, dtype=float))
    s, mean, freedom = len(values_S), float(values_S.mean()), max(1, influence_SN.shape[1] - 1)
    cases = float((influence_SN.mean(0) ** 2).sum())
    if s == 1:
        return _around(mean, float(stdtrit(freedom, TAIL) * np.sqrt(cases)), share)
    seeds = float(values_S.var(ddof=1)) / s
    of_pairs = (float((influence_SN**2).sum(1).mean()) - cases) / (s - 1)
    cases = max(cases - of_pairs, 0)
    total, half = seeds + cases, 0.0
    if total > SMALL**2:
        df = 1 / ((seeds / total) ** 2 / (s - 1) + (cases / total) ** 2 / freedom)
        half = max(stdtrit(s - 1, TAIL) * np.sqrt(seeds), stdtrit(df, TAIL) * np.sqrt(total))
    return _around(mean, float(half), share)


def holm(p_values: Floats) -> Floats:
    """p values corrected by Holm's step-down method for the number of those that are not NaN; a NaN stays one."""
    p_values = np.asarray(p_values, dtype=float)
    out = np.full(len(p_values), np.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    factors = len(order) - np.arange(len(order))
    out[order] = np.minimum(1.0, np.maximum.accumulate(p_values[order] * factors)) if len(order) else []
    return out


def _finite(values: Floats) -> Floats:
    if values.size == 0:
        raise DataError("no scores to take a mean of")
    if not np.isfinite(values).all():
        raise DataError(f"a score is not finite: {values.tolist()}")
    return values
