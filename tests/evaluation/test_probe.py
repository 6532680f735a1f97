"""The probe: it separates what is separable, chooses on validation alone, and refuses what it cannot fit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mmcontrast.errors import DataError
from mmcontrast.evaluation import logistic
from mmcontrast.evaluation.probe import STRENGTHS, balanced, fit_probe
from mmcontrast.evaluation.scores import cross_entropy, score


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
    np.testing.assert_allclose(probe.predict(t), plain.predict_proba(scaler.transform(t)), atol=1e-6)
    assert probe.converged


def test_strength_is_the_best_on_validation_and_weaker_ones_are_left_when_two_were_worse() -> None:
    (x, y), (v, w) = blobs(60, 3, 4.0, 1), blobs(200, 3, 4.0, 2)
    probe = fit_probe(x, y, v, w, 3)
    assert probe.validation[probe.strength] == min(probe.validation.values())
    assert cross_entropy(w, probe.predict(v)) == pytest.approx(probe.validation[probe.strength], rel=1e-12)
    assert list(probe.validation) == list(STRENGTHS)[: len(probe.validation)]
    assert list(probe.validation)[-3] == probe.strength  # it went on for two, and no further
    alone = fit_probe(x, y, v, w, 3, strengths=[probe.strength])
    np.testing.assert_allclose(alone.predict(v), probe.predict(v), atol=1e-9)  # wherever it started from


def test_the_validation_loss_of_rare_classes_weighs_classes_alike() -> None:
    (x, y), (v, w) = blobs(60, 2, 4.0, 1), blobs(200, 2, 4.0, 2)
    kept = (w == 0) | (np.arange(200) < 20)
    probe = fit_probe(x, y, v[kept], w[kept], 2, weights=(balanced(y), balanced(w[kept])))
    losses = [cross_entropy(w[kept & (w == c)], probe.predict(v[kept & (w == c)])) for c in (0, 1)]
    assert np.mean(losses) == pytest.approx(probe.validation[probe.strength], rel=1e-12)


@pytest.mark.parametrize("kind", ["classes", "multilabel", "regression"])
def test_a_case_of_weight_two_is_two_cases(kind: str) -> None:
    (x, y), (v, w) = blobs(60, 3, 4.0, 1), blobs(80, 3, 4.0, 2)
    y, w = (of if kind == "classes" else np.eye(3)[of] + (kind == "regression") * 0.1 * of[:, None] for of in (y, w))
    twice = [np.concatenate([np.arange(n), np.arange(n // 3)]) for n in (60, 80)]
    weights = tuple(np.bincount(rows).astype(float) for rows in twice)
    weighted = fit_probe(x, y, v, w, 3, kind, weights=weights, scaled_by=x)
    repeated = fit_probe(x[twice[0]], y[twice[0]], v[twice[1]], w[twice[1]], 3, kind, scaled_by=x)
    # the weights of the cases are scaled to a mean of 1, and there are fewer of them: C is a third larger here
    assert len(twice[0]) / 60 == pytest.approx(4 / 3)
    same = fit_probe(x, y, v, w, 3, kind, strengths=[repeated.strength * 4 / 3], weights=weights, scaled_by=x)
    np.testing.assert_allclose(same.predict(v), repeated.predict(v), atol=1e-6)
    if kind != "regression":  # whose errors are in units of the spread, which weighs all cases alike
        assert same.validation[same.strength] == pytest.approx(repeated.validation[repeated.strength])
    assert not np.allclose(weighted.predict(v), fit_probe(x, y, v, w, 3, kind).predict(v), atol=1e-4)


def test_weights_of_balanced_classes_are_scikit_learns() -> None:
    (x, y), (v, w) = blobs(90, 3, 4.0, 1), blobs(80, 3, 4.0, 2)
    x, y = x[y + np.arange(90) % 3 < 3], y[y + np.arange(90) % 3 < 3]
    ours = fit_probe(x, y, v, w, 3, strengths=[0.1], weights=(balanced(y), balanced(w)))
    scaler = StandardScaler().fit(x)
    plain = LogisticRegression(C=0.1, max_iter=5000, tol=1e-8, class_weight="balanced").fit(scaler.transform(x), y)
    np.testing.assert_allclose(ours.predict(v), plain.predict_proba(scaler.transform(v)), atol=1e-6)


def test_of_fewer_cases_than_features_the_optimum_is_the_same() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 40)) + 3, np.arange(12) % 3
    v, w = rng.standard_normal((50, 40)) + 3, rng.integers(0, 3, 50)
    few = fit_probe(x, y, v, w, 3, strengths=[1.0], scaled_by=v)
    assert few.model.basis.shape == (40, 12)
    scaler = StandardScaler().fit(v)
    plain = LogisticRegression(max_iter=5000, tol=1e-10).fit(scaler.transform(x), y)
    np.testing.assert_allclose(few.predict(v), plain.predict_proba(scaler.transform(v)), atol=1e-6)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("spread", [4.5, 1.5])  # of the second nearly all are told apart, and the losses are small
def test_many_unknowns_take_the_other_solver_to_the_same_optimum(
    classes: int, weighted: bool, spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    (x, y), (v, w), (t, _) = (blobs(200, classes, spread, s) for s in (1, 2, 3))
    if spread > 4:
        y[y == 1] = np.where(np.arange((y == 1).sum()) % 3, 0, 1)  # a rarer class
    weights = (balanced(y), balanced(w)) if weighted else None
    second_order = fit_probe(x, y, v, w, classes, weights=weights)
    monkeypatch.setattr(logistic, "LARGEST_HESSIAN", 0)
    monkeypatch.setattr(logistic, "cholesky", None)
    first_order = fit_probe(x, y, v, w, classes, weights=weights)
    assert first_order.converged
    assert second_order.converged
    assert first_order.strength == second_order.strength
    assert first_order.validation == pytest.approx(second_order.validation, rel=1e-2)  # as far as choosing needs
    np.testing.assert_allclose(first_order.predict(t), second_order.predict(t), atol=1e-7)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("strength", [1e-4, 1.0, 1e4])
def test_the_optimum_is_that_of_newtons_method(classes: int, strength: float) -> None:
    """Also of cases that are told apart, at a regularisation that hardly holds the weights."""
    x, y = blobs(200, classes, 1.0, 1)
    weights = 0.5 + np.arange(200) % 2
    found, converged = logistic.Logistic(x, y, weights, classes).optimum(strength, None)
    model = LogisticRegression(C=strength, solver="newton-cholesky", tol=1e-10, max_iter=200).fit(x, y, weights)
    probs = softmax(np.column_stack([x, np.ones(200)]) @ found, axis=1)
    assert converged
    np.testing.assert_allclose(probs, model.predict_proba(x), atol=1e-8)


def test_features_that_tell_nothing_are_fitted_at_once() -> None:
    """The gradient is exactly 0 from the first step on."""
    found, converged = logistic.Logistic(np.zeros((6, 2)), np.arange(6) % 3, np.ones(6), 3).optimum(1.0, None)
    assert converged
    assert (found == 0).all()


KERNELS = {"Prescott": "pni", "Nehalem": "sse4_2", "Haswell": "avx2", "SkylakeX": "avx512f"}
SCORED = """
import numpy as np
from threadpoolctl import threadpool_info
from mmcontrast.evaluation import logistic
from mmcontrast.evaluation.probe import balanced, fit_probe

out = []
cases = (64, 2, "balanced", 1500), (64, 5, None, 1500), (24, 5, None, 1500), (24, 5, None, 0), (24, 2, "balanced", 0)
for width, classes, weights, limit in cases:
    logistic.LARGEST_HESSIAN = limit
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((width, width)).astype(np.float32)
    y = rng.integers(0, classes, 900)
    x = (rng.standard_normal((900, width)) + rng.standard_normal((classes, width))[y] / 4).astype(np.float32) @ mixing
    parts = slice(400), slice(400, 600)
    weighted = tuple(balanced(y[p]) for p in parts) if weights else None
    probe = fit_probe(x[parts[0]], y[parts[0]], x[parts[1]], y[parts[1]], classes, weights=weighted)
    out += [probe.strength, *probe.predict(x[600:]).ravel()]
few = fit_probe(x[:12], y[:12], x[400:600], y[400:600], 5, scaled_by=x[:400])
several = fit_probe(x[:400], np.eye(5)[y[:400]], x[400:600], np.eye(5)[y[400:600]], 5, "multilabel")
numbers = fit_probe(x[:400], x[:400, :2] @ mixing[:2, :2], x[400:600], x[400:600, :2], 2, "regression")
for probe in (few, several, numbers):
    out += [probe.strength, *probe.predict(x[600:]).ravel()]
print({i["architecture"] for i in threadpool_info() if i["internal_api"] == "openblas"})
print(*map(float, out))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the kernels are those of x86-64")
def test_scores_do_not_depend_on_the_processor_or_the_number_of_threads() -> None:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split() if Path("/proc/cpuinfo").exists() else []
    kernels = [k for k, flag in KERNELS.items() if flag in flags]
    assert len(kernels) > 1, "one kernel alone says nothing"
    found, seen = [], set()
    for kernel, threads in [*((k, "1") for k in kernels), (kernels[-1], "2")]:
        environment = os.environ | {
            "OPENBLAS_CORETYPE": kernel,
            "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
        }
        ran = subprocess.run(
            [sys.executable, "-c", SCORED], env=environment, capture_output=True, text=True, check=True
        )
        architecture, numbers = ran.stdout.splitlines()
        seen.add(architecture)
        found.append(np.array(numbers.split(), dtype=float))
    assert len(seen) == len(kernels), f"the kernel was not changed: {seen}"
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-6)


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
    weighted = score("balanced_acc", u, fit_probe(x, y, v, w, 2, weights=(balanced(y), balanced(w))).predict(t))
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
    both = LogisticRegression(C=refit.strength, max_iter=5000, tol=1e-8)
    both.fit(scaler.transform(np.concatenate([x, v])), np.concatenate([y, w]))
    np.testing.assert_allclose(refit.predict(v), both.predict_proba(scaler.transform(v)), atol=1e-6)
    assert not np.allclose(refit.predict(v), apart.predict(v))


def test_a_fit_that_does_not_converge_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    (x, y), (v, w) = blobs(100, 4, 3.0, 1), blobs(100, 4, 3.0, 2)
    monkeypatch.setattr(logistic, "MOST_HESSIANS", 1)
    monkeypatch.setattr(logistic, "MOST_STEPS", 1)
    assert not fit_probe(x, y, v, w, 4, strengths=[1e4]).converged
    several = np.eye(4, dtype=np.uint8)
    assert not fit_probe(x, several[y], v, several[w], 4, "multilabel", strengths=[1e4]).converged


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
