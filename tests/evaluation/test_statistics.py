"""Intervals against slow references, exact enumeration and closed forms."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from mmcontrast.errors import DataError
from mmcontrast.evaluation import statistics
from mmcontrast.evaluation.statistics import (
    case_weights,
    holm,
    iqm,
    over_seeds,
    over_seeds_and_cases,
    paired_difference,
)

SCORES = np.array([0.8117, 0.7931, 0.8642, 0.8409, 0.8023])


def test_equal_scores_have_no_width() -> None:
    assert over_seeds(np.full(5, 0.8)) == pytest.approx((0.8, 0.8, 0.8))


def test_one_seed_has_no_interval() -> None:
    mean, low, high = over_seeds(np.array([0.8]))
    assert mean == 0.8
    assert np.isnan([low, high]).all()


def test_the_interval_is_that_of_all_possible_resamples() -> None:
    """Five seeds can be drawn in 3,125 ways; 2.5 % of them lie beyond each end, up to the error of the draws."""
    means = np.array([np.mean(draw) for draw in product(SCORES, repeat=5)])
    mean, low, high = over_seeds(SCORES)
    assert mean == pytest.approx(SCORES.mean())
    error = 1e-9
    for below, up_to in (
        ((means < low - error).mean(), (means <= low + error).mean()),
        ((means > high + error).mean(), (means >= high - error).mean()),
    ):
        assert below - 0.006 < 0.025 < up_to + 0.006


def test_intervals_are_deterministic_and_leave_the_global_generator_alone() -> None:
    np.random.seed(3)
    expected = np.random.random()
    np.random.seed(3)
    assert over_seeds(SCORES) == over_seeds(SCORES)
    assert np.random.random() == expected


def test_an_interval_shifts_and_scales_with_the_scores() -> None:
    straight, moved = over_seeds(SCORES), over_seeds(2 * SCORES + 1)
    assert moved == pytest.approx(tuple(2 * x + 1 for x in straight))


@pytest.mark.parametrize("values", [[], [0.5, float("nan")]])
def test_nothing_or_not_a_number_is_refused(values: list[float]) -> None:
    with pytest.raises(DataError):
        over_seeds(np.array(values))


def test_case_weights_keep_every_class_at_its_size() -> None:
    labels = np.array([0, 2, 0, 1, 2, 2])
    weights = case_weights(labels, np.random.default_rng(0), 500)
    for c in range(3):
        assert (weights[:, labels == c].sum(1) == (labels == c).sum()).all()
    np.testing.assert_allclose(weights.mean(0), 1, atol=0.15)
    assert weights.max() == 3


def probabilities(seeds: int, labels: np.ndarray, strength: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    c = labels.max() + 1
    logits = rng.normal(size=(seeds, len(labels), c)) + strength * np.eye(c)[labels]
    return (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("metric", ["acc", "f1", "auc", "macro_f1", "weighted_f1", "balanced_acc"])
def test_seeds_and_cases_against_explicit_resampling(metric: str) -> None:
    """The reference draws seeds and cases one by one and calls the plain score of the drawn cases."""
    labels = np.arange(40) % 2
    probs = probabilities(4, labels, 1.0)
    rng = np.random.default_rng(99)
    slow = []
    for _ in range(1500):
        cases = np.concatenate([rng.choice(np.flatnonzero(labels == c), (labels == c).sum()) for c in (0, 1)])
        seeds = rng.integers(0, 4, 4)
        slow.append(np.mean([statistics_score(metric, labels[cases], probs[s][cases]) for s in seeds]))
    found = over_seeds_and_cases(labels, {metric: probs})[metric]
    assert found.mean == pytest.approx(np.mean([statistics_score(metric, labels, p) for p in probs]))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=0.02)


def statistics_score(metric: str, labels: np.ndarray, probs: np.ndarray) -> float:
    from mmcontrast.evaluation.scores import score

    return score(metric, labels, probs)


def test_equal_seeds_leave_the_spread_of_a_proportion() -> None:
    """One and the same predictor: the width is that of a binomial share, stratified."""
    labels = np.arange(400) % 2
    one = probabilities(1, labels, 1.0)
    found = over_seeds_and_cases(labels, {"acc": np.repeat(one, 3, axis=0)})["acc"]
    right = one[0].argmax(-1) == labels
    sd = np.sqrt(sum(right[labels == c].mean() * (1 - right[labels == c].mean()) / 200 / 4 for c in (0, 1)))
    assert found.high - found.low == pytest.approx(2 * 1.96 * sd, rel=0.1)


def test_cases_add_to_the_interval_over_seeds() -> None:
    labels = np.arange(60) % 3
    probs = probabilities(5, labels, 1.5)
    accuracy = np.array([statistics_score("acc", labels, p) for p in probs])
    both, seeds = over_seeds_and_cases(labels, {"acc": probs})["acc"], over_seeds(accuracy)
    assert both.mean == pytest.approx(seeds.mean)
    assert both.high - both.low > seeds.high - seeds.low


def test_perfect_predictions_leave_nothing_to_vary() -> None:
    labels = np.arange(20) % 2
    found = over_seeds_and_cases(labels, {"auc": np.repeat(np.eye(2)[labels][None], 2, axis=0)})
    assert found["auc"] == (1, 1, 1)


def test_many_cases_are_resampled_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.arange(50) % 2
    probs = probabilities(3, labels, 1.0)
    whole = over_seeds_and_cases(labels, {"acc": probs})["acc"]
    monkeypatch.setattr(statistics, "CHUNK_WEIGHTS", 50 * 700)
    chunked = over_seeds_and_cases(labels, {"acc": probs})["acc"]
    assert chunked.mean == whole.mean
    assert chunked == pytest.approx(whole, abs=0.01)


def test_paired_difference_is_scipys_paired_t_test() -> None:
    a, b = SCORES, np.array([0.80, 0.80, 0.81, 0.79, 0.80])
    found = paired_difference(dict(enumerate(a)), dict(enumerate(b)))
    assert found.p == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert found[:3] == pytest.approx(over_seeds(a - b))
    assert found.n == 5


def test_seeds_are_paired_by_name_and_the_rest_left_out() -> None:
    a, b = {0: 0.5, 1: 0.7, 7: 0.9}, {1: 0.6, 0: 0.5, 5: 0.1}
    found = paired_difference(a, b)
    assert (found.mean, found.n) == (pytest.approx(0.05), 2)


@pytest.mark.parametrize(("shift", "p"), [(0.0, 1.0), (0.01, float("nan"))])
def test_differences_that_do_not_vary_have_no_t_test(shift: float, p: float) -> None:
    b = dict(enumerate(SCORES))
    found = paired_difference({s: v + shift for s, v in b.items()}, b)
    assert found.p == pytest.approx(p, nan_ok=True)
    assert found[:3] == pytest.approx((shift, shift, shift))


def test_one_seed_is_not_tested() -> None:
    found = paired_difference({0: 0.5}, {0: 0.5})
    assert np.isnan([found.low, found.high, found.p]).all()


def test_no_common_seed_is_refused() -> None:
    with pytest.raises(DataError, match="common seed"):
        paired_difference({0: 0.5}, {1: 0.5})


def slow_holm(p: list[float]) -> list[float]:
    order = sorted(range(len(p)), key=lambda i: p[i])
    out, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, (len(p) - rank) * p[i])
        out[i] = min(1.0, highest)
    return out


@pytest.mark.parametrize("p", [[0.01, 0.04, 0.03], [0.5], [0.02, 0.02, 0.9, 0.001], []])
def test_holm_against_a_loop(p: list[float]) -> None:
    np.testing.assert_allclose(holm(np.array(p)), slow_holm(p))


def test_holm_by_hand_and_with_a_missing_p_value() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, np.nan, 0.03])), [0.02, np.nan, 0.03])
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])


def test_iqm_is_scipys_trimmed_mean() -> None:
    matrix = np.random.default_rng(0).random((5, 4))
    assert iqm(matrix).mean == pytest.approx(stats.trim_mean(matrix, 0.25, axis=None))


def test_iqm_against_a_loop() -> None:
    matrix = np.random.default_rng(0).random((5, 3))
    rng = np.random.default_rng(5)
    slow = [
        stats.trim_mean(np.stack([column[rng.integers(0, 5, 5)] for column in matrix.T]), 0.25, axis=None)
        for _ in range(4000)
    ]
    assert iqm(matrix)[1:] == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=0.02)


def test_iqm_closed_forms() -> None:
    assert iqm(np.tile([0.2, 0.9], (4, 1)).T[:1]).mean == pytest.approx(0.2)
    assert iqm(np.full((4, 3), 0.7)) == pytest.approx((0.7, 0.7, 0.7))
    assert iqm(np.arange(8.0).reshape(4, 2)).mean == pytest.approx(3.5)
    constant_by_dataset = iqm(np.tile([0.1, 0.5, 0.9, 0.5], (3, 1)))
    assert constant_by_dataset == pytest.approx((0.5, 0.5, 0.5)), "seeds of a dataset are resampled apart"
    assert np.isnan(iqm(np.array([[0.1, 0.2]]))[1:]).all()
