"""Cross-modal retrieval over instances that have several observations.

Protocol of TriCoLo (3dlg-hcvc/tricolo) and of Karpathy's Flickr30K split. One modality stands for the instance: its
observations make ONE item (`grouped` below). Of the other each observation is an item of its own. From the grouped side
a query's right answers are all the instance's observations; towards it there is one right answer.

RR@k ("recall rate", R@k on Flickr30K) is the share of queries with at least one right answer among the first k.
NDCG@k has binary gains 1 / log2(rank + 1), over the best that min(right answers, k) allow. MRR is the mean of 1 / rank
of the first right answer.

Shapes: P observations of the grouped modality, Q of the other, I and J items made of them, U queries, G items of the
gallery, D width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmcontrast.config.datasets import Retrieval
from mmcontrast.errors import DataError

Floats = npt.NDArray[np.floating[Any]]
Ids = npt.NDArray[Any]

RECALL_AT = (1, 5, 10)
NDCG_AT = 5
CHUNK = 1024


@dataclass(frozen=True)
class QueryScores:
    """Scores by query, so that intervals can be drawn over queries or over their instances, (U,) each.

    Attributes:
        query_ids: instance of each query. first_rank: of the first right answer, from 1. ndcg: NDCG@5.
    """

    query_ids: Ids
    first_rank: npt.NDArray[np.int64]
    ndcg: npt.NDArray[np.float64]


def rank_gallery(similarity_UG: Floats, query_ids: Ids, gallery_ids: Ids) -> npt.NDArray[np.bool_]:
    """(U, G) is the item at each rank a right answer? Items in falling order of similarity.

    Of equal similarity wrong answers come first, so that no collapsed model profits. query_ids, gallery_ids: (U,) and
    (G,) instance of each.
    Raises DataError: a similarity is not finite, or a query has no right answer in the gallery.
    """
    if not np.isfinite(similarity_UG).all():
        raise DataError("a similarity is not a finite number, so there is no ranking; look at the embeddings")
    relevant_UG = query_ids[:, None] == gallery_ids[None, :]
    if not relevant_UG.any(axis=1).all():
        missing = query_ids[~relevant_UG.any(axis=1)][:5].tolist()
        raise DataError(f"queries without a right answer in the gallery: {missing}")
    order_UG = np.lexsort((relevant_UG, -similarity_UG), axis=1)
    return np.take_along_axis(relevant_UG, order_UG, axis=1)


def ndcg(right_UG: npt.NDArray[np.bool_], k: int = NDCG_AT) -> npt.NDArray[np.float64]:
    """(U,) NDCG@k of ranked right answers, as `rank_gallery` gives them; DataError for k larger than the gallery."""
    check_k(k, right_UG.shape[1])
    discount_k = 1 / np.log2(np.arange(2, k + 2))
    best_k = np.cumsum(discount_k)
    n_right_U = np.minimum(right_UG.sum(axis=1), k)
    return (right_UG[:, :k] * discount_k).sum(axis=1) / best_k[n_right_U - 1]


def score_queries(similarity_UG: Floats, query_ids: Ids, gallery_ids: Ids) -> QueryScores:
    """Rank the gallery for every query, a chunk at a time; DataError as `rank_gallery` and `ndcg`."""
    first, gain = [], []
    for i in range(0, len(query_ids), CHUNK):
        rows = slice(i, i + CHUNK)
        right_UG = rank_gallery(similarity_UG[rows], query_ids[rows], gallery_ids)
        first.append(right_UG.argmax(axis=1) + 1)
        gain.append(ndcg(right_UG))
    return QueryScores(query_ids, np.concatenate(first), np.concatenate(gain))


def grouped_similarity(a_PD: Floats, ids_P: Ids, b_QD: Floats, ids_Q: Ids) -> tuple[Floats, Ids, Ids]:
    """(I, J) dot products of items, each the unit mean of the unit rows that share an id, and the ids of both.

    Pass `np.arange(len(b))` as ids to keep rows of b apart. Raises DataError: a row is zero or not finite.
    """
    (mean_ID, items_I), (mean_JD, items_J) = _items(a_PD, ids_P), _items(b_QD, ids_Q)
    return mean_ID @ mean_JD.T, items_I, items_J


def _items(z_PD: Floats, ids_P: Ids) -> tuple[Floats, Ids]:
    """(I, D) unit mean rows of the distinct ids, and these, sorted."""
    order_P = np.argsort(ids_P, kind="stable")
    items_I, start_I = np.unique(ids_P[order_P], return_index=True)
    mean_ID = np.add.reduceat(_unit(z_PD, ids_P)[order_P], start_I) / np.diff([*start_I, len(ids_P)])[:, None]
    return _unit(mean_ID, items_I), items_I


def _unit(z_PD: Floats, ids_P: Ids) -> Floats:
    norm_P = np.linalg.norm(z_PD, axis=1)
    if not (np.isfinite(norm_P) & (norm_P > 0)).all():
        bad = ids_P[~(np.isfinite(norm_P) & (norm_P > 0))][:5].tolist()
        raise DataError(f"embeddings without a direction (zero or not finite), of {bad}")
    return z_PD / norm_P[:, None]


def check_k(k: int, gallery: int) -> None:
    """Raise DataError where the first k of a gallery are more than it has."""
    if not 1 <= k <= gallery:
        raise DataError(f"k = {k}: the gallery has {gallery} items; give a k from 1 to {gallery}")


Rows = tuple[Floats, Ids]
RSUM = "rsum"


def directions(spec: Retrieval) -> tuple[str, str]:
    """Names of the two directions: towards the gallery (one right answer a query), and from it."""
    return f"{spec.queries}_to_{spec.gallery}", f"{spec.gallery}_to_{spec.queries}"


def ranked(rows: Mapping[str, Rows], spec: Retrieval) -> dict[str, QueryScores]:
    """direction -> the scores of its queries: of the gallery's items, and of every row of the other modality.

    rows: modality -> (P, D) embeddings and (P,) instance of each. Raises DataError: as `score_queries` and
    `grouped_similarity`, or the gallery is too small for the largest of RECALL_AT.
    """
    z_QD, ids_Q = rows[spec.queries]
    similarity_IQ, items_I, _ = grouped_similarity(*rows[spec.gallery], z_QD, np.arange(len(ids_Q)))
    check_k(max(RECALL_AT), min(similarity_IQ.shape))
    found = score_queries(similarity_IQ.T, ids_Q, items_I), score_queries(similarity_IQ, items_I, ids_Q)
    return dict(zip(directions(spec), found, strict=True))


def per_query(scores: QueryScores, metric: str) -> npt.NDArray[np.float64]:
    """(U,) values in [0, 1] whose mean is the metric: rr<k>, ndcg5 or mrr."""
    if metric.startswith("rr"):
        return (scores.first_rank <= int(metric.removeprefix("rr"))).astype(float)
    return scores.ndcg if metric == f"ndcg{NDCG_AT}" else 1 / scores.first_rank


def parts_of(metric: str, spec: Retrieval) -> list[tuple[str, str]]:
    """(direction, metric in it) pairs that a reported metric, rsum or <direction>/<metric>, is the sum of."""
    if metric == RSUM:
        return [(d, f"rr{k}") for d in directions(spec) for k in RECALL_AT]
    direction, _, name = metric.partition("/")
    return [(direction, name)]


def reported(metrics: Sequence[str], spec: Retrieval) -> list[str]:
    """Names of all scores: rsum as it is, the others in each direction as <direction>/<metric>."""
    return [name for m in metrics for name in ([m] if m == RSUM else [f"{d}/{m}" for d in directions(spec)])]


def score(scores: Mapping[str, QueryScores], metric: str, spec: Retrieval) -> float:
    """A reported metric: in [0, 1], `rsum` in [0, 6]."""
    return float(sum(per_query(scores[d], name).mean() for d, name in parts_of(metric, spec)))


def selection_key(scores: Mapping[str, QueryScores]) -> tuple[float, float]:
    """How well an epoch did: larger is better, first by the sum of all recall rates, then by the sum of the MRRs."""
    recall = sum(per_query(s, f"rr{k}").mean() for s in scores.values() for k in RECALL_AT)
    return float(recall), float(sum(per_query(s, "mrr").mean() for s in scores.values()))
