"""Scores against scikit-learn, which they do not use."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from mmcontrast.config.metrics import metrics_for
from mmcontrast.errors import DataError
from mmcontrast.evaluation.scores import METRICS, cross_entropy, score, selection_key, weighted_scores

BINARY_ONLY = ("f1", "auc")


def by_sklearn(metric: str, labels: np.ndarray, probs: np.ndarray, weights: np.ndarray | None = None) -> float:
    said = probs.argmax(1)
    present = np.unique(labels)
    if metric == "acc":
        return reference.accuracy_score(labels, said, sample_weight=weights)
    if metric == "f1":
        return reference.f1_score(labels, said, sample_weight=weights, zero_division=0)
    if metric == "auc":
        return reference.roc_auc_score(labels, probs[:, 1], sample_weight=weights)
    if metric == "balanced_acc":
        return reference.recall_score(
            labels, said, labels=present, average="macro", sample_weight=weights, zero_division=0
        )
    average = metric.removesuffix("_f1")
    return reference.f1_score(labels, said, labels=present, average=average, sample_weight=weights, zero_division=0)


def draw(classes: int, n: int, seed: int, decimals: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    probs = rng.dirichlet(np.ones(classes), n).round(decimals)
    return labels, probs.astype(np.float32)


@pytest.mark.parametrize("metric", METRICS["classes"])
@pytest.mark.parametrize("n", [6, 37, 200])
@pytest.mark.parametrize("seed", range(5))
def test_score_is_scikit_learns(metric: str, n: int, seed: int) -> None:
    labels, probs = draw(2 if metric in BINARY_ONLY else 4, n, seed, decimals=1)  # one decimal: many ties
    assert score(metric, labels, probs) == pytest.approx(by_sklearn(metric, labels, probs), abs=1e-12)


@pytest.mark.parametrize("metric", METRICS["classes"])
def test_weighted_scores_are_scikit_learns_of_each_weighting_and_prediction(metric: str) -> None:
    labels, _ = draw(2 if metric in BINARY_ONLY else 4, 40, 0)
    probs = np.stack([draw(labels.max() + 1, 40, s, decimals=1)[1] for s in range(3)])
    weights = np.random.default_rng(1).integers(0, 4, (5, 40)).astype(float)
    weights[:, : labels.max() + 1] = 1  # every class keeps a case
    expected = [[by_sklearn(metric, labels, p, w) for p in probs] for w in weights]
    np.testing.assert_allclose(weighted_scores(metric, labels, probs, weights), expected, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS["classes"])
def test_integer_weights_are_repeated_cases(metric: str) -> None:
    labels, probs = draw(2 if metric in BINARY_ONLY else 3, 25, 3)
    times = np.random.default_rng(2).integers(1, 4, 25)
    repeated = score(metric, np.repeat(labels, times), np.repeat(probs, times, axis=0))
    assert weighted_scores(metric, labels, probs[None], times[None].astype(float))[0, 0] == pytest.approx(repeated)


def test_every_metric_that_params_accept_can_be_scored() -> None:
    assert set(metrics_for("classes")) == set(METRICS["classes"])


@pytest.mark.parametrize("metric", METRICS["classes"])
def test_perfect_and_inverted_predictions(metric: str) -> None:
    labels = np.array([0, 1, 0, 1, 1])
    right = np.eye(2, dtype=np.float32)[labels]
    assert score(metric, labels, right) == 1
    assert score(metric, labels, 1 - right) == 0


def test_a_class_without_cases_does_not_lower_macro_scores() -> None:
    labels = np.array([0, 0, 1, 1])
    probs = np.eye(3, dtype=np.float32)[labels]
    assert score("macro_f1", labels, probs) == 1
    assert score("balanced_acc", labels, probs) == 1


def test_constant_scores_have_an_auc_of_a_half() -> None:
    assert score("auc", np.array([0, 1, 1, 0]), np.full((4, 2), 0.5, dtype=np.float32)) == 0.5


def test_auc_of_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="every label is of one class"):
        score("auc", np.ones(3, dtype=int), np.full((3, 2), 0.5))


def test_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(DataError, match="no metric 'macro_f'; did you mean 'macro_f1'"):
        score("macro_f", np.array([0, 1]), np.eye(2))


def test_cross_entropy_is_scikit_learns_and_finite_at_zero() -> None:
    labels, probs = draw(4, 50, 0)
    exact = probs.astype(float) / probs.astype(float).sum(1, keepdims=True)
    assert cross_entropy(labels, probs) == pytest.approx(reference.log_loss(labels, exact), rel=1e-5)
    assert cross_entropy(np.array([0]), np.array([[0.0, 1.0]])) == pytest.approx(-np.log(1e-12))


def test_selection_key_prefers_the_score_then_the_lower_cross_entropy() -> None:
    labels = np.array([0, 1])
    sure, unsure = np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([[0.6, 0.4], [0.4, 0.6]])
    wrong = np.array([[0.9, 0.1], [0.51, 0.49]])
    assert selection_key(labels, sure, "acc") > selection_key(labels, unsure, "acc")
    assert selection_key(labels, unsure, "acc") > selection_key(labels, wrong, "acc")
