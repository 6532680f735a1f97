"""The probe: it separates what is separable, chooses on validation alone, and refuses what it cannot fit."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mmcontrast.errors import DataError
from mmcontrast.evaluation.probe import fit_probe
from mmcontrast.evaluation.scores import score


def blobs(n: int, classes: int, spread: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    centres = np.random.default_rng(99).standard_normal((classes, 6)) * 3 + 5
    return centres[labels] + spread * rng.standard_normal((n, 6)), labels


def test_equals_scikit_learn_at_the_chosen_strength() -> None:
    (x, y), (v, w), (t, _) = (blobs(200, 4, 2.5, s) for s in (1, 2, 3))
    probe = fit_probe(x, y, v, w, 4)
    scaler = StandardScaler().fit(x)
    plain = LogisticRegression(C=probe.strength, max_iter=5000, tol=1e-8).fit(scaler.transform(x), y)
    np.testing.assert_allclose(probe.predict(t), plain.predict_proba(scaler.transform(t)), atol=1e-2)
    assert probe.converged


def test_strength_is_the_best_on_validation_and_the_strongest_of_equals() -> None:
    (x, y), (v, w) = blobs(60, 3, 4.0, 1), blobs(200, 3, 4.0, 2)
    probe = fit_probe(x, y, v, w, 3)
    assert set(probe.validation) == {10.0**k for k in range(-4, 5)}
    best = max(probe.validation.values())
    assert probe.validation[probe.strength] == best
    assert score("balanced_acc", w, probe.predict(v)) == pytest.approx(best)
    assert len(set(probe.validation.values())) > 2


def test_noise_is_at_chance_and_blobs_are_not() -> None:
    rng = np.random.default_rng(0)
    x, v, t = (rng.standard_normal((n, 6)) for n in (400, 400, 4000))
    y, w, u = (rng.integers(0, 4, n) for n in (400, 400, 4000))
    assert score("balanced_acc", u, fit_probe(x, y, v, w, 4).predict(t)) == pytest.approx(0.25, abs=0.04)
    (x, y), (v, w), (t, u) = (blobs(300, 4, 0.5, s) for s in (1, 2, 3))
    assert score("balanced_acc", u, fit_probe(x, y, v, w, 4).predict(t)) > 0.98


def test_class_weight_finds_rare_positives() -> None:
    def rare(seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        y = (rng.random(3000) < 0.08).astype(int)
        return rng.standard_normal((3000, 2)) + 1.2 * y[:, None], y

    (x, y), (v, w), (t, u) = (rare(s) for s in (1, 2, 3))
    plain = score("balanced_acc", u, fit_probe(x, y, v, w, 2).predict(t))
    weighted = score("balanced_acc", u, fit_probe(x, y, v, w, 2, class_weight="balanced").predict(t))
    assert weighted > plain + 0.1


def test_classes_absent_from_train_get_probability_zero() -> None:
    (x, y), (v, w) = blobs(100, 3, 1.0, 1), blobs(50, 3, 1.0, 2)
    probs = fit_probe(x, y * 2, v, w * 2, 6).predict(v)
    assert probs.shape == (50, 6)
    assert (probs[:, [1, 3, 5]] == 0).all()
    np.testing.assert_allclose(probs.sum(axis=1), 1)


def test_refit_on_validation_is_a_fit_of_both() -> None:
    (x, y), (v, w) = blobs(60, 3, 3.0, 1), blobs(60, 3, 3.0, 2)
    apart, refit = fit_probe(x, y, v, w, 3), fit_probe(x, y, v, w, 3, refit_on_val=True)
    assert refit.strength == apart.strength
    assert refit.validation == apart.validation
    scaler = StandardScaler().fit(x)
    both = LogisticRegression(C=refit.strength, max_iter=1000)
    both.fit(scaler.transform(np.concatenate([x, v])), np.concatenate([y, w]))
    np.testing.assert_allclose(refit.predict(v), both.predict_proba(scaler.transform(v)), atol=1e-6)
    assert not np.allclose(refit.predict(v), apart.predict(v))


def test_a_fit_that_does_not_converge_says_so() -> None:
    (x, y), (v, w) = blobs(100, 4, 3.0, 1), blobs(100, 4, 3.0, 2)
    assert not fit_probe(x, y, v, w, 4, strengths=[1e4], max_iter=1).converged


GOOD = np.random.default_rng(0).standard_normal((10, 3))
TWO = np.arange(10) % 2


@pytest.mark.parametrize(
    ("train", "labels", "val", "val_labels", "message"),
    [
        (GOOD, TWO, GOOD[:0], TWO[:0], "no validation cases"),
        (GOOD, TWO[:9], GOOD, TWO, "10 training embeddings and 9 labels"),
        (GOOD, TWO, GOOD * np.nan, TWO, "validation embeddings hold values that are not finite"),
        (GOOD, TWO, GOOD[:, :2], TWO, "width 3, validation 2"),
        (GOOD, TWO * 0, GOOD, TWO, "all of one class"),
    ],
)
def test_refusals(train, labels, val, val_labels, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit_probe(train, labels, val, val_labels, 2)


def test_no_strengths() -> None:
    with pytest.raises(DataError, match="no regularisation strengths"):
        fit_probe(GOOD, TWO, GOOD, TWO, 2, strengths=[])
