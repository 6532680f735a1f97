"""Scores of predicted numbers against scikit-learn and scipy, which they do not use."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn import metrics as reference

from mmcontrast.config.metrics import metrics_for
from mmcontrast.evaluation.scores import METRICS, score, selection_key, squared_error, weighted_scores

REFERENCES = {
    "mse": reference.mean_squared_error,
    "rmse": reference.root_mean_squared_error,
    "mae": reference.mean_absolute_error,
}


def by_libraries(metric: str, labels: np.ndarray, values: np.ndarray, times: np.ndarray | None = None) -> float:
    if metric in REFERENCES:
        return REFERENCES[metric](labels, values, sample_weight=times)
    times = np.ones(len(labels), dtype=int) if times is None else times.astype(int)
    pairs = zip(np.repeat(labels, times, axis=0).T, np.repeat(values, times, axis=0).T, strict=True)
    return float(np.mean([pearsonr(y, x).statistic for y, x in pairs]))


def draw(n: int, width: int, seed: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.normal(size=(n, width)) * 10.0 ** np.arange(width) + shift
    return labels.astype(np.float32), (labels + rng.normal(size=(n, width))).astype(np.float32)


@pytest.mark.parametrize("metric", METRICS["regression"])
@pytest.mark.parametrize(("n", "width"), [(3, 1), (40, 1), (40, 3)])
@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_score_is_the_libraries(metric: str, n: int, width: int, shift: float) -> None:
    labels, values = draw(n, width, n, shift)
    wanted = by_libraries(metric, labels.astype(float), values.astype(float))
    assert score(metric, labels, values) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("metric", METRICS["regression"])
def test_weighted_scores_are_the_libraries_of_each_weighting_and_prediction(metric: str) -> None:
    labels, _ = draw(20, 2, 0)
    values = np.stack([draw(20, 2, s)[1] for s in range(3)])
    weights = np.random.default_rng(1).integers(0, 4, (5, 20)).astype(float)
    expected = [[by_libraries(metric, labels.astype(float), v.astype(float), w) for v in values] for w in weights]
    np.testing.assert_allclose(weighted_scores(metric, labels, values, weights), expected, rtol=1e-9)


def test_every_metric_that_params_accept_can_be_scored() -> None:
    assert set(metrics_for("regression")) == set(METRICS["regression"])


def test_perfect_predictions_and_constant_ones() -> None:
    labels, _ = draw(10, 2, 0)
    assert [score(m, labels, labels) for m in ("mse", "rmse", "mae")] == [0, 0, 0]
    assert score("pearson", labels, -labels) == pytest.approx(-1)
    # the mean of ten times 0.1 is not 0.1
    assert score("pearson", labels, np.full_like(labels, 0.1)) == 0
    assert weighted_scores("pearson", labels, labels[None], np.eye(10)[:1])[0, 0] == 0


def test_lower_errors_are_selected_and_higher_correlations() -> None:
    labels, near = draw(30, 1, 0)
    far = labels + 3 * (near - labels)
    for metric in METRICS["regression"]:
        assert selection_key(labels, near, metric) > selection_key(labels, far, metric)
    shifted = near + 5
    assert score("pearson", labels, near) == pytest.approx(score("pearson", labels, shifted))
    assert squared_error(labels, near) < squared_error(labels, shifted)


def test_quantities_of_other_units_weigh_alike_between_equals() -> None:
    labels = np.array([[0.0, 0.0], [1.0, 1000.0]])
    assert squared_error(labels, labels + np.array([1, 0])) == pytest.approx(
        squared_error(labels, labels + np.array([0, 1000]))
    )
