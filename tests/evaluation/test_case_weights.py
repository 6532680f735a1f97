"""Weights of cases: one of weight 2 counts as two equal cases do, one of weight 0 as none, in fit and score."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from mmcontrast.config import Optimizer, Stage
from mmcontrast.evaluation.evaluate import evaluate_cell
from mmcontrast.evaluation.probe import STRENGTHS, fit_probe
from mmcontrast.evaluation.scores import loss, score
from mmcontrast.evaluation.statistics import case_influence
from mmcontrast.evaluation.stored import Embeddings

METRICS = ("acc", "balanced_acc", "macro_f1", "weighted_f1", "f1", "auc")


def cases(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings, labels and whole weights from 0 to 3."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    return rng.normal(size=(n, 4)) + 0.7 * y[:, None], y, rng.integers(0, 4, n)


@pytest.mark.parametrize("metric", METRICS)
def test_a_score_counts_a_case_as_often_as_it_weighs(metric: str) -> None:
    _, y, w = cases(200, 1)
    probs = np.random.default_rng(2).dirichlet([1, 1], 200)
    assert score(metric, y, probs, w.astype(float)) == pytest.approx(score(metric, y.repeat(w), probs.repeat(w, 0)))
    assert loss("classes", y, probs, w.astype(float)) == pytest.approx(loss("classes", y.repeat(w), probs.repeat(w, 0)))


def test_a_fit_counts_a_case_as_often_as_it_weighs() -> None:
    (x, y, w), (v, u, m) = cases(400, 1), cases(200, 2)
    scaled = x.repeat(w, 0)
    probe = fit_probe(x, y, v, u, 2, weights=(w, m), scaled_by=scaled)
    # sums of w / mean(w) are those of w divided by its mean, which the strengths make up for
    strengths = [c / w.mean() for c in STRENGTHS]
    plain = fit_probe(scaled, y.repeat(w), v.repeat(m, 0), u.repeat(m), 2, strengths=strengths)
    assert probe.strength / w.mean() == pytest.approx(plain.strength)
    np.testing.assert_allclose(probe.predict(v), plain.predict(v), atol=1e-6)


def test_influence_is_of_cases_with_their_weights() -> None:
    """Of one class of cases: the squares are the variance of a weighted mean."""
    y = np.zeros(40, dtype=int)
    right, weights = np.arange(40) < 20, np.where(np.arange(40) < 20, 3.0, 1.0)
    probs = np.eye(2)[np.where(right, 0, 1)][None]
    found = case_influence("acc", y, probs, weights)
    expected = weights * (right - 0.75) / weights.sum() * np.sqrt(40 / 39)
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    assert not case_influence("acc", y, probs, right.astype(float)).any()


def test_cases_of_a_task_are_those_that_weigh() -> None:
    part = Embeddings(
        ["a", "b", "c"],
        np.array([0, 1, 0]),
        np.arange(3, dtype=np.float32)[:, None],
        {"far": np.array([1, 0, 1])},
        {"encoders": np.ones((3, 2), np.float32)},
        {"": np.array([1.0, 1.0, 0.0]), "far": np.array([0.0, 1.0, 3.0])},
    )
    main, far = part.cases(""), part.cases("far")
    assert (main.ids, far.ids) == (["a", "b"], ["b", "c"])
    assert (main.labels.tolist(), far.labels.tolist(), far.z.tolist()) == ([0, 1], [0, 1], [[1.0], [2.0]])
    assert far.weights[""].tolist() == [0.5, 1.5]
    assert far.readouts["encoders"].shape == (2, 2)


def test_a_cell_is_scored_on_the_cases_of_each_task(make_cell, write, tmp_path) -> None:
    stage = Stage(epochs=3, batch_size="full", optimizer=Optimizer(lr=0.1))
    cell = make_cell(
        finetune=None,
        pretrain=stage,
        seeds=[0],
        metrics=["acc"],
        classes=["a", "b"],
        tasks={"far": ["a", "b"]},
        case_weights=True,
    )
    parts = []
    for split in ("train", "val", "test"):
        y, near = np.arange(40) % 2, np.arange(40) < 20
        # of the cases that are far from those of train the embedding tells the opposite
        z = np.stack([np.where(near | (split == "train"), y, 1 - y)] * 2, 1) + np.random.default_rng(0).normal(
            0, 0.01, (40, 2)
        )
        parts.append(
            pl.DataFrame(
                {
                    "seed": np.zeros(40, int),
                    "split": [split] * 40,
                    "id": [f"{split}-{i:02d}" for i in range(40)],
                    "label": y,
                    "label_far": y,
                    "weight": np.where(near, 1.0, 0.0),
                    "weight_far": np.ones(40) if split == "train" else np.where(near, 0.0, 1.0),
                    "embedding": pl.Series(z.astype(np.float32), dtype=pl.Array(pl.Float32, 2)),
                }
            )
        )
    paths = [tmp_path / f"{name}.parquet" for name in ("metrics", "curves", "intervals")]
    evaluate_cell(cell, write(pl.concat(parts)), *paths)
    found = {
        row["metric"]: (row["value"], row["n"]) for row in pl.read_parquet(paths[0]).filter(split="test").to_dicts()
    }
    assert found == {"acc": (1.0, 20), "far/acc": (0.0, 20)}
    assert pl.read_parquet(paths[2])["n_cases"].to_list() == [20, 20]


def test_a_classifier_of_its_own_takes_no_weights(make_cell) -> None:
    with pytest.raises(
        ValueError, match="case_weights: cases of dataset 'toy' have weights, which a probe alone takes"
    ):
        make_cell(case_weights=True)
