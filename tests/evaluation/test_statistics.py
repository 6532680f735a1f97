"""Intervals and tests against scipy, slow references and closed forms; how often they cover: `test_coverage`."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mmcontrast.errors import DataError
from mmcontrast.evaluation import statistics
from mmcontrast.evaluation.scores import score
from mmcontrast.evaluation.statistics import (
    Sample,
    case_influence,
    centred_by_class,
    holm,
    over_seeds,
    over_seeds_and_cases,
    paired_difference,
    welch,
)

SCORES = np.array([0.8117, 0.7931, 0.8642, 0.8409, 0.8023])


def test_equal_scores_have_no_width() -> None:
    assert over_seeds(np.full(5, 0.8)) == pytest.approx((0.8, 0.8, 0.8))


def test_one_seed_has_no_interval() -> None:
    mean, low, high = over_seeds(np.array([0.8]))
    assert mean == 0.8
    assert np.isnan([low, high]).all()


def test_the_interval_is_scipys_t_interval() -> None:
    expected = stats.t.interval(0.95, 4, SCORES.mean(), stats.sem(SCORES))
    assert over_seeds(SCORES) == pytest.approx((SCORES.mean(), *expected))


def test_the_interval_of_a_share_is_symmetric_in_log_odds_and_lies_within_0_and_1() -> None:
    plain, share = over_seeds(SCORES), over_seeds(SCORES, share=True)
    odds, low, high = np.log(np.array(share) / (1 - np.array(share)))
    assert (high - odds, odds - low) == pytest.approx([(plain.high - plain.mean) / plain.mean / (1 - plain.mean)] * 2)
    near = np.array([0.9, 1.0, 1.0])
    assert 0 < over_seeds(1 - near, share=True).low < over_seeds(near, share=True).low < 1 < over_seeds(near).high
    assert over_seeds(1 - near, share=True)[1:] == pytest.approx(
        tuple(1 - np.array(over_seeds(near, share=True)))[:0:-1]
    )
    assert over_seeds(np.ones(3), share=True) == (1, 1, 1)
    assert over_seeds(np.zeros(3), share=True) == (0, 0, 0)


def test_an_interval_shifts_and_scales_with_the_scores() -> None:
    straight, moved = over_seeds(SCORES), over_seeds(2 * SCORES + 1)
    assert moved == pytest.approx(tuple(2 * x + 1 for x in straight))


@pytest.mark.parametrize("values", [[], [0.5, float("nan")]])
def test_nothing_or_not_a_number_is_refused(values: list[float]) -> None:
    with pytest.raises(DataError):
        over_seeds(np.array(values))


def probabilities(seeds: int, labels: np.ndarray, strength: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    c = labels.max() + 1
    logits = rng.normal(size=(seeds, len(labels), c)) + strength * np.eye(c)[labels]
    return (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("metric", ["acc", "f1", "auc", "macro_f1", "weighted_f1", "balanced_acc"])
def test_influence_gives_the_variance_of_explicit_resampling(metric: str) -> None:
    """The reference draws cases within each class one by one and calls the plain score of the drawn cases."""
    labels = np.arange(200) % 2
    probs = probabilities(2, labels, 1.0)
    rng = np.random.default_rng(99)
    slow = []
    for _ in range(1500):
        cases = np.concatenate([rng.choice(np.flatnonzero(labels == c), (labels == c).sum()) for c in (0, 1)])
        slow.append([score(metric, labels[cases], p[cases]) for p in probs])
    found = case_influence(metric, labels, probs)
    assert np.sqrt((found**2).sum(1)) == pytest.approx(np.std(slow, axis=0), rel=0.08)
    assert (found.mean(0) ** 2).sum() ** 0.5 == pytest.approx(np.std(np.mean(slow, axis=1)), rel=0.08)


def test_influence_on_accuracy_is_in_closed_form() -> None:
    labels = np.arange(30) % 3
    probs = probabilities(1, labels, 1.0)
    right = (probs[0].argmax(-1) == labels).astype(float)
    expected = np.zeros(30)
    for c in range(3):
        of = labels == c
        expected[of] = (right[of] - right[of].mean()) / 30 * np.sqrt(10 / 9)
    by_class = np.argsort(labels, kind="stable")
    np.testing.assert_allclose(case_influence("acc", labels, probs)[0], expected[by_class], atol=1e-5)


def test_many_cases_are_taken_in_groups_within_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.arange(1500) % 3
    probs = probabilities(2, labels, 0.5)
    single = case_influence("acc", labels, probs)
    monkeypatch.setattr(statistics, "MOST_GROUPS", 300)
    grouped = case_influence("acc", labels, probs)
    assert (single.shape, grouped.shape) == ((2, 1500), (2, 300))
    assert (grouped**2).sum(1) == pytest.approx((single**2).sum(1), rel=0.2)
    monkeypatch.setattr(statistics, "CHUNK_WEIGHTS", 7000)
    np.testing.assert_allclose(case_influence("acc", labels, probs), grouped)


def test_a_class_of_one_case_has_no_influence() -> None:
    slopes = np.array([[0.3, 0.1, 0.2]])
    found = centred_by_class(np.array([0, 1, 1]), np.arange(3), slopes)
    np.testing.assert_allclose(found, [[0, -0.05 * np.sqrt(2), 0.05 * np.sqrt(2)]])


def test_labels_and_numbers_are_one_class() -> None:
    rng = np.random.default_rng(0)
    labels = rng.normal(size=(40, 1))
    found = case_influence("mse", labels, labels[None] + rng.normal(size=(2, 40, 1)))
    assert found.shape == (2, 40)
    np.testing.assert_allclose(found.sum(1), 0, atol=1e-6)


def test_one_seed_leaves_the_spread_of_a_proportion() -> None:
    labels = np.arange(400) % 2
    one = probabilities(1, labels, 1.0)
    right = one[0].argmax(-1) == labels
    found = over_seeds_and_cases(np.array([right.mean()]), case_influence("acc", labels, one))
    sd = np.sqrt(sum(right[labels == c].mean() * (1 - right[labels == c].mean()) / 199 / 4 for c in (0, 1)))
    assert found.high - found.low == pytest.approx(2 * stats.t.ppf(0.975, 399) * sd, rel=1e-3)


@pytest.mark.parametrize("share", [False, True])
def test_equal_cases_leave_the_interval_over_seeds(share: bool) -> None:
    found = over_seeds_and_cases(SCORES, np.zeros((5, 30)), share)
    assert found == pytest.approx(over_seeds(SCORES, share=share))


def test_cases_add_to_the_interval_over_seeds() -> None:
    labels = np.arange(60) % 3
    probs = probabilities(5, labels, 1.5)
    accuracy = np.array([score("acc", labels, p) for p in probs])
    both = over_seeds_and_cases(accuracy, case_influence("acc", labels, probs), share=True)
    assert both.mean == pytest.approx(accuracy.mean())
    assert both.high - both.low > over_seeds(accuracy).high - over_seeds(accuracy).low
    assert 0 < both.low < both.high < 1


def test_the_variance_has_a_part_of_the_seeds_and_a_part_of_the_cases() -> None:
    """Cases that move all seeds alike add their variance; what moves every seed by other cases is the seeds' alone."""
    influence = np.tile(np.resize([0.01, -0.01], 30), (5, 1))
    seeds, cases = SCORES.var(ddof=1) / 5, 30 * 0.01**2
    df = (seeds + cases) ** 2 / (seeds**2 / 4 + cases**2 / 29)
    found = over_seeds_and_cases(SCORES, influence)
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, df) * np.sqrt(seeds + cases))
    assert over_seeds_and_cases(SCORES, 0.01 * np.eye(5, 30)) == pytest.approx(over_seeds(SCORES))


def test_what_rounding_alone_makes_vary_has_no_spread() -> None:
    """One instance more in each of five seeds: their variance is not 0 in floating point, nor large by its freedom."""
    one = np.array([0.7597402597402597, 0.7467532467532467, 0.7662337662337663, 0.7662337662337663, 0.7532467532467533])
    other = one - np.array([1, 1.00000000000001, 1, 1, 1]) / 154
    found = over_seeds_and_cases(one - other, np.zeros((5, 2)))
    assert np.ptp(one - other) > 0
    assert found.low == found.high == pytest.approx(1 / 154)


def test_the_freedom_is_never_less_than_that_of_the_seeds() -> None:
    tiny = over_seeds_and_cases(np.array([0.0, 1e-9, 2e-9]), np.zeros((3, 2)))
    assert tiny == pytest.approx(over_seeds(np.array([0.0, 1e-9, 2e-9])), abs=0)


def test_perfect_predictions_leave_nothing_to_vary() -> None:
    labels = np.arange(20) % 2
    influence = case_influence("auc", labels, np.repeat(np.eye(2)[labels][None], 2, axis=0))
    assert over_seeds_and_cases(np.ones(2), influence, share=True) == (1, 1, 1)


def test_welch_is_scipys() -> None:
    other = np.array([0.7, 0.8, 0.75, 0.9])
    found = welch(SCORES, Sample(other.mean(), other.std(ddof=1), 4))
    expected = stats.ttest_ind(SCORES, other, equal_var=False)
    assert found.p == pytest.approx(expected.pvalue)
    assert found[:3] == pytest.approx((SCORES.mean() - other.mean(), *expected.confidence_interval()))
    assert found.n == 5


def test_welch_of_what_does_not_vary() -> None:
    assert welch(np.full(3, 0.5), Sample(0.5, 0.0, 5)) == (0, 0, 0, 1, 3)
    assert welch(np.full(3, 0.5), Sample(0.4, 0.0, 5)).p == 0
    assert welch(SCORES, Sample(0.8, 0.0, 5)).p == pytest.approx(stats.ttest_1samp(SCORES, 0.8).pvalue)


@pytest.mark.parametrize(("values", "other"), [([0.5], Sample(0.5, 0.1, 3)), ([0.5, 0.6], Sample(0.5, 0.1, 1))])
def test_welch_takes_two_runs_on_each_side(values: list[float], other: Sample) -> None:
    with pytest.raises(DataError, match="two runs each on, and there are"):
        welch(np.array(values), other)


def test_paired_difference_is_scipys_paired_t_test() -> None:
    a, b = SCORES, np.array([0.80, 0.80, 0.81, 0.79, 0.80])
    found = paired_difference(dict(enumerate(a)), dict(enumerate(b)))
    assert found.p == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert found[:3] == pytest.approx(over_seeds(a - b))
    assert found.n == 5


def test_p_is_below_005_just_where_the_interval_excludes_0() -> None:
    rng = np.random.default_rng(0)
    for shift in rng.normal(0, 0.02, 40):
        values = SCORES - SCORES.mean() + shift
        found = paired_difference(dict(enumerate(values)), dict.fromkeys(range(5), 0.0))
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


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
