"""Retrieval scores by direction, what selects an epoch, and intervals over seeds and instances."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from mmcontrast.config import Dataset
from mmcontrast.config.datasets import Retrieval
from mmcontrast.evaluation.evaluate import _slopes
from mmcontrast.evaluation.retrieval import directions, parts_of, per_query, ranked, reported, score, selection_key

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
        for name in ("rr1", "rr5", "rr10", "ndcg5", "mrr"):
            assert by_name[f"{direction}/{name}"] == pytest.approx(per_query(s, name).mean())
    assert parts_of("text_to_image/mrr", SPEC) == [("text_to_image", "mrr")]


def test_a_better_epoch_has_a_larger_key_and_equal_recall_is_told_apart_by_rank():
    keys = [selection_key(ranked(made(noise), SPEC)) for noise in (0.1, 1.0, 5.0)]
    assert keys == sorted(keys, reverse=True)
    assert keys[0][0] == pytest.approx(6)


def test_an_instance_moves_a_mean_by_all_its_queries():
    """Against the weighted mean of a slightly heavier instance."""
    scores = ranked(made(1.5), SPEC)["text_to_image"]
    ids, values = np.unique(scores.query_ids), per_query(scores, "mrr")
    found = _slopes([{"text_to_image": scores}], "text_to_image", "mrr", ids)
    for i, instance in enumerate(ids):
        weights = 1 + 1e-6 * (scores.query_ids == instance)
        assert found[0, i] == pytest.approx((np.average(values, weights=weights) - values.mean()) / 1e-6, abs=1e-5)


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
