"""Retrieval metrics on printed vectors, against scikit-learn, with ties, and with bad input."""

import numpy as np
import pytest
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score

from mmcontrast.config.datasets import Retrieval
from mmcontrast.errors import DataError
from mmcontrast.evaluation.retrieval import (
    grouped_similarity,
    ndcg,
    per_query,
    rank_gallery,
    ranked,
    score_queries,
)

CAPTION = np.repeat(np.arange(6), [1, 2, 3, 2, 2, 2])
SHAPE = np.arange(6)
ROW, COLUMN = np.meshgrid(np.arange(12), np.arange(6), indexing="ij")
SIM = np.sin(1.3 * ROW + 2.1 * COLUMN + 0.7 * ROW * COLUMN) + (CAPTION[:, None] == SHAPE)


@pytest.mark.parametrize(
    ("sim", "queries", "gallery", "recall", "gain", "mrr"),
    [
        (SIM, CAPTION, SHAPE, [0.5, 0.75, 0.916667, 1.0], [0.5, 0.657732, 0.741066, 0.776955], 0.701389),
        (SIM.T, SHAPE, CAPTION, [0.833333] * 3 + [1.0], [0.833333, 0.639907, 0.655035, 0.734101], 0.866667),
    ],
)
def test_metrics_on_the_vectors(sim, queries, gallery, recall, gain, mrr):
    scores = score_queries(sim, queries, gallery)
    assert [per_query(scores, f"rr{k}").mean() for k in (1, 2, 3, 5)] == pytest.approx(recall, abs=6e-7)
    right = rank_gallery(sim, queries, gallery)
    assert [ndcg(right, k).mean() for k in (1, 2, 3, 5)] == pytest.approx(gain, abs=6e-7)
    assert per_query(scores, "ndcg5").mean() == pytest.approx(gain[-1], abs=6e-7)
    assert per_query(scores, "mrr").mean() == pytest.approx(mrr, abs=6e-7)


@pytest.mark.parametrize("k", [1, 3, 5, 12])
def test_ndcg_is_that_of_scikit_learn_where_nothing_ties(k):
    sim = np.random.default_rng(0).normal(size=(6, 12))
    want = ndcg_score((SHAPE[:, None] == CAPTION).astype(float), sim, k=k)
    assert ndcg(rank_gallery(sim, SHAPE, CAPTION), k).mean() == pytest.approx(want, abs=1e-12)


def test_mrr_with_one_right_answer_is_scikit_learns_average_precision():
    sim = np.random.default_rng(1).normal(size=(12, 6))
    want = label_ranking_average_precision_score(CAPTION[:, None] == SHAPE, sim)
    got = score_queries(sim, CAPTION, SHAPE)
    assert per_query(got, "mrr").mean() == pytest.approx(want, abs=1e-12)


def test_ties_count_against_the_model():
    collapsed = score_queries(np.zeros((6, 6)), SHAPE, SHAPE)
    assert collapsed.first_rank.tolist() == [6] * 6
    assert collapsed.ndcg.tolist() == [0.0] * 6
    partial = np.array([[0.9, 0.5, 0.5, 0.5, 0.1, 0.0]])
    assert score_queries(partial, np.array([2]), SHAPE).first_rank.tolist() == [4]


def test_chunks_of_queries_do_not_matter(monkeypatch):
    whole = score_queries(SIM, CAPTION, SHAPE)
    monkeypatch.setattr("mmcontrast.evaluation.retrieval.CHUNK", 5)
    parts = score_queries(SIM, CAPTION, SHAPE)
    assert parts.first_rank.tolist() == whole.first_rank.tolist()
    assert parts.ndcg.tolist() == whole.ndcg.tolist()


def test_grouped_similarity_against_a_slow_reference():
    rng = np.random.default_rng(2)
    ids_a, ids_b = np.array(["x", "z", "x", "y", "z", "x"]), np.array([3, 1, 3, 2, 1])
    a, b = rng.normal(size=(6, 4)), rng.normal(size=(5, 4))
    got, items_a, items_b = grouped_similarity(a, ids_a, b, ids_b)
    assert (items_a.tolist(), items_b.tolist()) == (["x", "y", "z"], [1, 2, 3])
    a, b = a / np.linalg.norm(a, axis=1, keepdims=True), b / np.linalg.norm(b, axis=1, keepdims=True)
    for i, x in enumerate(items_a):
        for j, y in enumerate(items_b):
            mean_a, mean_b = a[ids_a == x].mean(0), b[ids_b == y].mean(0)
            want = mean_a @ mean_b / np.linalg.norm(mean_a) / np.linalg.norm(mean_b)
            assert got[i, j] == pytest.approx(want)


def test_both_directions_take_the_instance_once_and_every_caption():
    # two drawings and three texts each of ten things; the texts of thing 9 sit on thing 0
    corner = np.eye(10)
    images, image_ids = corner.repeat(2, axis=0), np.arange(10).repeat(2)
    text_ids = np.arange(10).repeat(3)
    texts = corner[np.where(text_ids == 9, 0, text_ids)] + 0.001 * np.arange(30)[:, None]
    rows = {"image": (images, image_ids), "text": (texts, text_ids)}
    to_image, from_image = ranked(rows, Retrieval(gallery="image", queries="text")).values()
    assert from_image.query_ids.tolist() == list(range(10))
    assert from_image.first_rank.tolist()[:9] == [1] * 9
    assert to_image.query_ids.tolist() == text_ids.tolist()
    assert (to_image.first_rank == 1).tolist() == [True] * 27 + [False] * 3
    assert per_query(to_image, "rr1").mean() == 0.9


def test_k_larger_than_the_gallery_is_refused():
    few = {"text": (np.eye(6)[CAPTION], CAPTION), "image": (np.eye(6), SHAPE)}
    with pytest.raises(DataError, match=r"k = 10: the gallery has 6 items; give a k from 1 to 6"):
        ranked(few, Retrieval(gallery="image", queries="text"))
    with pytest.raises(DataError, match=r"k = 5: the gallery has 4 items; give a k from 1 to 4"):
        score_queries(np.eye(4), SHAPE[:4], SHAPE[:4])


def test_bad_input_is_refused():
    with pytest.raises(DataError, match=r"without a right answer in the gallery: \[9\]"):
        score_queries(SIM[:1], np.array([9]), SHAPE)
    with pytest.raises(DataError, match="not a finite number"):
        score_queries(np.where(SIM > 1, np.nan, SIM), CAPTION, SHAPE)
    with pytest.raises(DataError, match=r"without a direction .* of \['b'\]"):
        grouped_similarity(np.array([[1.0], [0.0]]), np.array(["a", "b"]), np.ones((1, 1)), np.array([0]))
