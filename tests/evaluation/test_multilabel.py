"""Scores of several labels at once against scikit-learn, which they do not use."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from mmcontrast.config.metrics import metrics_for
from mmcontrast.errors import DataError
from mmcontrast.evaluation.scores import METRICS, binary_cross_entropy, score, selection_key, weighted_scores


def by_sklearn(metric: str, labels: np.ndarray, probs: np.ndarray, weights: np.ndarray | None = None) -> float:
    said = (probs > 0.5).astype(int)
    occurring = np.average(labels, axis=0, weights=weights) > 0
    if metric == "map":
        of = labels[:, occurring], probs[:, occurring]
        return reference.average_precision_score(*of, average="macro", sample_weight=weights)
    if metric == "subset_acc":
        return reference.accuracy_score(labels, said, sample_weight=weights)
    average = metric.removesuffix("_f1")
    of = (labels, said) if average == "micro" else (labels[:, occurring], said[:, occurring])
    return reference.f1_score(*of, average=average, sample_weight=weights, zero_division=0)


def draw(n: int, seed: int, width: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, width)) < 0.4).astype(np.uint8)
    labels[0] = 1  # every label occurs
    # one decimal: many ties, and probabilities of exactly a half
    return labels, rng.random((n, width)).round(1).astype(np.float32)


@pytest.mark.parametrize("metric", METRICS["multilabel"])
@pytest.mark.parametrize("n", [6, 37, 200])
@pytest.mark.parametrize("seed", range(3))
def test_score_is_scikit_learns(metric: str, n: int, seed: int) -> None:
    labels, probs = draw(n, seed)
    assert score(metric, labels, probs) == pytest.approx(by_sklearn(metric, labels, probs), abs=1e-12)


@pytest.mark.parametrize("metric", METRICS["multilabel"])
def test_weighted_scores_are_scikit_learns_of_each_weighting_and_prediction(metric: str) -> None:
    labels, _ = draw(30, 0)
    labels[1:, 2] = 0  # rare: some weightings lack it
    probs = np.stack([draw(30, s)[1] for s in range(3)])
    weights = np.random.default_rng(1).integers(0, 3, (6, 30)).astype(float)
    assert 0 < (weights[:, 0] == 0).sum() < 6
    expected = [[by_sklearn(metric, labels, p, w) for p in probs] for w in weights]
    np.testing.assert_allclose(weighted_scores(metric, labels, probs, weights), expected, atol=1e-12)


def test_every_metric_that_params_accept_can_be_scored() -> None:
    assert set(metrics_for("multilabel")) == set(METRICS["multilabel"])


@pytest.mark.parametrize("metric", METRICS["multilabel"])
def test_perfect_and_inverted_predictions(metric: str) -> None:
    labels = np.array([[1, 0], [0, 1], [1, 1]])
    assert score(metric, labels, labels.astype(np.float32)) == 1
    # each label has one case without it, which comes first, and two with it
    worst = 2 / 3 if metric == "map" else 0
    assert score(metric, labels, 1 - labels.astype(np.float32)) == pytest.approx(worst)


@pytest.mark.parametrize("metric", ["macro_f1", "map"])
def test_a_label_without_cases_does_not_lower_the_mean(metric: str) -> None:
    labels = np.array([[1, 0], [0, 0], [1, 0]])
    assert score(metric, labels, labels.astype(np.float32)) == 1
    with pytest.raises(DataError, match="no case has any label"):
        score(metric, labels * 0, labels.astype(np.float32))


def test_a_metric_of_classes_is_refused() -> None:
    with pytest.raises(DataError, match="no metric 'acc'; known: macro_f1, mae"):
        score("acc", *draw(6, 0))
    with pytest.raises(DataError, match="no metric 'map'"):
        score("map", np.array([0, 1]), np.eye(2))


def test_cross_entropy_is_scikit_learns_and_decides_between_equals() -> None:
    labels, probs = draw(50, 0)
    inside = np.clip(probs, 0.05, 0.95)
    each = [reference.log_loss(labels[:, c], inside[:, c].astype(float)) for c in range(4)]
    assert binary_cross_entropy(labels, inside) == pytest.approx(np.mean(each), rel=1e-6)
    assert binary_cross_entropy(np.array([[1]]), np.array([[0.0]])) == pytest.approx(-np.log(1e-12))
    sure, unsure = 0.5 + 0.4 * (2.0 * labels - 1), 0.5 + 0.1 * (2.0 * labels - 1)
    assert selection_key(labels, sure, "macro_f1") > selection_key(labels, unsure, "macro_f1")
