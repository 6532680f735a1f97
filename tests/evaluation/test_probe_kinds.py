"""Probes of several labels at once and of numbers: scikit-learn's fits, one strength chosen on validation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from mmcontrast.errors import DataError
from mmcontrast.evaluation.probe import fit_probe
from mmcontrast.evaluation.scores import loss, score


def several(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The first label is easy, the second is noise, the third depends on two features."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, 5)).astype(np.float32) * 3 + 1
    labels = [z[:, 0] > 1, rng.random(n) > 0.5, z[:, 1] + z[:, 2] + rng.normal(size=n) > 4]
    return z, np.stack(labels, axis=1).astype(np.uint8)


def numbers(n: int, seed: int, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, 4)).astype(np.float32)
    values = np.stack([z[:, 0] - z[:, 1], 1000 * z[:, 2] + 5000], axis=1)
    return z, (values + noise * np.array([1, 1000]) * rng.normal(size=(n, 2))).astype(np.float32)


def test_each_label_has_scikit_learns_fit_at_one_strength() -> None:
    (x, y), (v, w), (t, u) = ((z.astype(np.float64), labels) for z, labels in (several(200, s) for s in (1, 2, 3)))
    # the easy label is separable, so without regularisation its fit has no end
    strengths = [1e-2, 1.0]
    probe = fit_probe(x, y, v, w, 3, "multilabel", strengths=strengths)
    scaler = StandardScaler().fit(x)
    for c in range(3):
        plain = LogisticRegression(C=probe.strength, max_iter=5000, tol=1e-8).fit(scaler.transform(x), y[:, c])
        of_label = plain.predict_proba(scaler.transform(t))[:, 1]
        np.testing.assert_allclose(probe.predict(t)[:, c], of_label, atol=1e-6)
    assert probe.converged
    assert set(probe.validation) == set(strengths)
    best = min(probe.validation.values())
    assert probe.validation[probe.strength] == best == pytest.approx(loss("multilabel", w, probe.predict(v)))
    assert score("macro_f1", u, probe.predict(t)) > 0.7


def test_a_label_that_all_training_cases_have_is_predicted_for_all() -> None:
    (x, y), (v, w) = several(60, 1), several(60, 2)
    y[:, 1], y[:, 2] = 1, 0
    np.testing.assert_array_equal(
        fit_probe(x, y, v, w, 3, "multilabel").predict(v)[:, 1:], np.tile([1.0, 0.0], (60, 1))
    )


@pytest.mark.parametrize("strength", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("n", [3, 60])  # fewer cases than features, and more
def test_numbers_are_scikit_learns_ridge(strength: float, n: int) -> None:
    (x, y), (v, w) = numbers(n, 1), numbers(50, 2)
    probe = fit_probe(x, y, v, w, 2, "regression", strengths=[strength])
    scaler, of_y = StandardScaler().fit(x), StandardScaler().fit(y.astype(float))
    plain = Ridge(alpha=1 / strength, solver="svd")
    plain.fit(scaler.transform(x).astype(float), of_y.transform(y.astype(float)))
    expected = of_y.inverse_transform(plain.predict(scaler.transform(v).astype(float)))
    np.testing.assert_allclose(probe.predict(v), expected, rtol=1e-6, atol=1e-6)


def test_the_strength_of_a_regression_is_the_best_on_validation() -> None:
    (x, y), (v, w) = numbers(30, 1, noise=3.0), numbers(300, 2, noise=3.0)
    probe = fit_probe(x, y, v, w, 2, "regression")
    best = min(probe.validation.values())
    assert probe.validation[probe.strength] == best == pytest.approx(loss("regression", w, probe.predict(v)))
    assert len(set(probe.validation.values())) > 3


@pytest.mark.parametrize(("draw", "n", "kind"), [(several, 3, "multilabel"), (numbers, 2, "regression")])
def test_refit_on_validation_is_a_fit_of_both(draw, n: int, kind: str) -> None:
    (x, y), (v, w) = draw(60, 1), draw(60, 2)
    apart, refit = fit_probe(x, y, v, w, n, kind), fit_probe(x, y, v, w, n, kind, refit_on_val=True)
    assert (refit.strength, refit.validation) == (apart.strength, apart.validation)
    both = fit_probe(np.concatenate([x, v]), np.concatenate([y, w]), v, w, n, kind, strengths=[refit.strength])
    assert np.abs(refit.predict(v) - both.predict(v)).max() < np.abs(refit.predict(v) - apart.predict(v)).max()


@pytest.mark.parametrize(
    ("labels", "kind", "message"),
    [
        (np.tile([1, 0], (10, 1)), "multilabel", "all have the same labels"),
        (np.full((10, 2), 3.5), "regression", "all have the same values"),
        (np.zeros((9, 2)), "regression", "10 training embeddings and 9 labels"),
    ],
)
def test_refusals(labels: np.ndarray, kind: str, message: str) -> None:
    z = np.random.default_rng(0).standard_normal((10, 3))
    with pytest.raises(DataError, match=message):
        fit_probe(z, labels, z, np.random.default_rng(1).integers(0, 2, (10, 2)), 2, kind)


def test_a_quantity_that_does_not_vary_is_predicted_as_it_is() -> None:
    (x, y), (v, w) = numbers(30, 1), numbers(30, 2)
    y[:, 1] = 7
    np.testing.assert_allclose(fit_probe(x, y, v, w, 2, "regression").predict(v)[:, 1], 7)
