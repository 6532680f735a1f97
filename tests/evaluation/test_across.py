"""Interquartile means and ranks across datasets of unequal numbers of seeds, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmcontrast.errors import DataError
from mmcontrast.evaluation import across
from mmcontrast.evaluation.across import interquartile_means, mean_ranks, rank_agreement, reversals, weighted_iqm


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(across, "REPLICATES", 400)


def slow_iqm(values: list[float], weights: list[float]) -> float:
    """Every value stands for a stretch of [0, 1] as long as its weight; the mean over [1/4, 3/4] of it."""
    grid = np.linspace(0.25, 0.75, 40_001)[:-1] + 0.5 / 80_000
    pairs = sorted(zip(values, weights, strict=True))
    ends = np.cumsum([w for _, w in pairs]) / sum(weights)
    return float(np.mean([pairs[min(int(np.searchsorted(ends, x)), len(pairs) - 1)][0] for x in grid[::20]]))


def test_the_weighted_mean_is_that_of_the_middle_stretch() -> None:
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=11), rng.uniform(0.5, 2, size=11)
    assert weighted_iqm(values, weights) == pytest.approx(slow_iqm(list(values), list(weights)), abs=2e-3)


@given(st.integers(1, 6), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_with_equal_weights_it_is_the_mean_of_the_middle_half(quarter: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=4 * quarter)
    assert weighted_iqm(values, np.ones(4 * quarter)) == pytest.approx(np.sort(values)[quarter : 3 * quarter].mean())


def test_a_dataset_weighs_as_much_with_three_seeds_as_with_five() -> None:
    # one dataset of zeros, one of ones: whatever the numbers of seeds, half of the weight is on each
    (found,) = interquartile_means([np.zeros((5, 1)), np.ones((3, 1))])
    assert found == pytest.approx((0.5, 0.5, 0.5))


def test_ranks_are_averaged_over_datasets_and_equals_share_theirs() -> None:
    scores = [np.array([[0.9, 0.5, 0.5]] * 2), np.array([[0.1, 0.2, 0.3]] * 3)]
    found = mean_ranks(scores)
    assert [f.mean for f in found] == [2.0, 2.25, 1.75]
    assert all(f.low == f.mean == f.high for f in found)  # seeds that do not vary


def test_intervals_come_from_resampled_seeds_of_each_dataset() -> None:
    rng = np.random.default_rng(1)
    scores = [rng.normal(size=(5, 2)), rng.normal(size=(3, 2))]
    first, second = interquartile_means(scores)
    ranks = mean_ranks(scores)
    assert first.low < first.mean < first.high
    assert second.low < second.mean < second.high
    assert all(1 <= r.low <= r.mean <= r.high <= 2 for r in ranks)
    # the two ranks of two methods always sum to three
    assert sum(r.mean for r in ranks) == pytest.approx(3)
    assert interquartile_means(scores) == [first, second]


def test_one_seed_has_no_interval() -> None:
    (found, _) = mean_ranks([np.array([[0.2, 0.4]])])
    assert found.mean == 2
    assert np.isnan([found.low, found.high]).all()


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([], "at least one dataset"),
        ([np.zeros((0, 2))], "at least one dataset"),
        ([np.zeros((2, 2)), np.zeros((2, 3))], "other numbers of methods"),
        ([np.array([[np.nan]])], "not finite"),
    ],
)
def test_what_has_no_mean_is_refused(scores: list[np.ndarray], words: str) -> None:
    with pytest.raises(DataError, match=words):
        mean_ranks(scores)


def test_interquartile_means_are_set_off_further_than_the_percentiles_are() -> None:
    """S = 4, two datasets: sqrt(4 / 3), times a t quantile with half of the 6 degrees of freedom over a normal one."""
    scores = [np.random.default_rng(d).normal(size=(4, 1)) for d in range(2)]
    (found,) = interquartile_means(scores)
    draws = np.concatenate(across._resampled(scores), axis=1).transpose(0, 2, 1)
    low, high = np.quantile(weighted_iqm(draws, np.ones(8)), [0.025, 0.975])
    wider = np.sqrt(4 / 3) * stats.t.ppf(0.975, 3) / stats.norm.ppf(0.975)
    assert found[1:] == pytest.approx(
        (found.mean + wider * (low - found.mean), found.mean + wider * (high - found.mean))
    )


def test_rank_agreement_is_kendalls_tau_of_the_means() -> None:
    rng = np.random.default_rng(0)
    val, test = rng.normal(size=(2, 5, 6))
    found = rank_agreement(val, test)
    assert found.mean == pytest.approx(stats.kendalltau(val.mean(0), test.mean(0)).statistic)
    assert -1 <= found.low <= found.high <= 1
    assert rank_agreement(val, val)[:3] == pytest.approx((1, 1, 1))
    assert rank_agreement(val, -val)[:3] == pytest.approx((-1, -1, -1))
    assert np.isnan(rank_agreement(val[:1], test[:1])[1:]).all()
    with pytest.raises(DataError, match="two tables of equal shape"):
        rank_agreement(val, test[:, :3])


def test_a_switch_that_passes_another_method_reverses_its_pair() -> None:
    others = np.tile([0.5, 0.9], (5, 1))
    own, changed = np.full(5, 0.4), np.full(5, 0.6)
    assert reversals(own, changed, others) == (0.5, 0.0, 2), "one of two pairs, and no seed reverses any"
    assert reversals(own, own, others) == (0, 0, 2)
    assert reversals(1 - own, 1 - changed, 1 - others, sign=-1) == (0.5, 0.0, 2), "of an error, lower is better"


def test_reversals_against_a_loop_over_replicates() -> None:
    rng = np.random.default_rng(1)
    own, changed, others = rng.normal(size=5), rng.normal(0.5, size=5), rng.normal(size=(5, 3))
    found, slow = reversals(own, changed, others), []
    for _ in range(4000):
        draw, second = rng.integers(0, 5, (2, 5))
        was = np.sign(own[draw].mean() - others[draw].mean(0))
        now = np.sign(changed[draw].mean() - others[draw].mean(0))
        again = np.sign(own[second].mean() - others[second].mean(0))
        slow.append([(was * now < 0).mean(), (was * again < 0).mean()])
    assert found[:2] == pytest.approx(tuple(np.mean(slow, axis=0)), abs=0.06)


@pytest.mark.parametrize(
    ("own", "others", "words"),
    [
        (np.zeros(3), np.zeros((4, 2)), "reversals: scores of the same seeds"),
        (np.zeros(4), np.zeros((4, 0)), "at least one other method"),
        (np.full(4, np.nan), np.zeros((4, 1)), "not finite"),
    ],
)
def test_reversals_of_nothing_are_refused(own: np.ndarray, others: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        reversals(own, own, others)
