"""Retrieval scores by direction, what selects an epoch, and intervals over seeds and instances."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from mmcontrast.config import Dataset
from mmcontrast.config.datasets import Retrieval
from mmcontrast.evaluation import statistics
from mmcontrast.evaluation.ranking import directions, parts_of, per_query, ranked, reported, score, selection_key
from mmcontrast.evaluation.statistics import over_seeds_and_weighted_cases

SPEC = Retrieval(gallery="image", queries="text")
NAMES = ["rsum", "rr1", "rr5", "rr10", "ndcg5", "mrr"]


def made(noise=0.6, seed=0, n=12):
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(n, 6))
    ids = {"image": np.repeat(np.arange(n), 2), "text": np.repeat(np.arange(n), 3)}
    return {m: (centre[i] + noise * rng.normal(size=(len(i), 6)), i) for m, i in ids.items()}


def test_rsum_is_the_sum_of_the_six_recall_rates():
    scores = ranked(made(), SPEC)
    assert list(scores) == list(directions(SPEC)) == ["text_to_image", "image_to_text"]
    assert [len(s.first_rank) for s in scores.values()] == [36, 12]
    by_name = {m: score(scores, m, SPEC) for m in reported(NAMES, SPEC)}
    recall = [v for m, v in by_name.items() if "/rr" in m]
    assert len(recall) == 6
    assert by_name["rsum"] == pytest.approx(sum(recall))
    assert 0 < by_name["rsum"] < 6
    for direction, s in scores.items():
        for name, value in s.metrics().items():
            assert by_name[f"{direction}/{name}"] == pytest.approx(value)
            assert per_query(s, name).mean() == pytest.approx(value)
    assert parts_of("text_to_image/mrr", SPEC) == [("text_to_image", "mrr")]


def test_a_better_epoch_has_a_larger_key_and_equal_recall_is_told_apart_by_rank():
    keys = [selection_key(ranked(made(noise), SPEC)) for noise in (0.1, 1.0, 5.0)]
    assert keys == sorted(keys, reverse=True)
    assert keys[0][0] == pytest.approx(6)


@pytest.mark.parametrize("how", ["max_pairs", "mean_pairs"])
def test_the_aggregation_of_the_gallery_is_the_datasets(how):
    rows = made(1.5)
    name = "text_to_image/mrr"
    plain = score(ranked(rows, SPEC), name, SPEC)
    other = SPEC.model_copy(update={"aggregation": how})
    assert score(ranked(rows, other), name, other) != plain


def test_intervals_are_of_the_mean_and_widen_with_the_spread(monkeypatch):
    monkeypatch.setattr(statistics, "REPLICATES", 400)
    rng = np.random.default_rng(0)
    labels, count = np.arange(30) % 3, np.full(30, 2.0)
    sums = {"a": rng.binomial(2, 0.5, (4, 30)).astype(float), "b": np.ones((4, 30))}
    parts = {"a": [(sums["a"], count)], "b": [(sums["b"], count)], "ab": [(sums[k], count) for k in "ab"]}
    found = over_seeds_and_weighted_cases(labels, parts)
    assert found["b"] == (0.5, 0.5, 0.5)
    assert found["a"].mean == pytest.approx(sums["a"].mean() / 2)
    assert found["a"].low < found["a"].mean < found["a"].high
    # the constant part moves the interval and does not widen it: the same cases are drawn for both
    assert found["ab"] == pytest.approx([x + 0.5 for x in found["a"]])
    assert over_seeds_and_weighted_cases(labels, parts) == found


def test_instances_with_more_queries_weigh_more():
    parts = {"m": [(np.array([[3.0, 0.0]]), np.array([3.0, 1.0]))]}
    found = over_seeds_and_weighted_cases(np.array([0, 1]), parts)["m"]
    assert found.mean == 0.75


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"metrics": ["acc"]}, "not of retrieval; accepted: rsum, rr1"),
        ({"metrics": ["rr1", "rsum"]}, "give `rsum` first"),
        ({"retrieval": None}, "not of target: classes; accepted: acc"),
        ({"retrieval": {"gallery": "image", "queries": "texts"}}, r"no modality \['texts'\]"),
        ({"retrieval": {"gallery": "image", "queries": "image"}}, "are both 'image'"),
    ],
)
def test_a_dataset_whose_metrics_do_not_fit_its_task_is_refused(change, says):
    modalities = {m: {"kind": k, "shape": s, "multifold": True} for m, k, s in
                  (("image", "image", [3, 8, 8]), ("text", "text", []))}  # fmt: skip
    raw = {
        "title": "t", "description": "d", "licence": "l", "redistribute": False, "citation": "c", "classes": ["a"],
        "generate": {"seed": 0}, "modalities": modalities, "rows": 4, "scaling": "none", "metrics": ["rsum"],
        "split": {"kind": "published", "train": 2, "test": 2}, "retrieval": SPEC.model_dump(),
    }  # fmt: skip
    assert Dataset.model_validate(raw).retrieval == SPEC
    with pytest.raises(ValidationError, match=says):
        Dataset.model_validate(raw | change)
