"""Retrieval in both directions from embedded observations, and the key by which an epoch is selected.

Shapes: P rows of a modality, D width, U queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mmcontrast.config.datasets import Retrieval
from mmcontrast.evaluation.retrieval import NDCG_AT, RECALL_AT, Floats, Ids, QueryScores, check_k, cross_modal_scores

Rows = tuple[Floats, Ids]
RSUM = "rsum"


def directions(spec: Retrieval) -> tuple[str, str]:
    """Names of the two directions: towards the gallery (one right answer a query), and from it."""
    return f"{spec.queries}_to_{spec.gallery}", f"{spec.gallery}_to_{spec.queries}"


def ranked(rows: Mapping[str, Rows], spec: Retrieval) -> dict[str, QueryScores]:
    """direction -> the scores of its queries.

    Args:
        rows: modality -> (P, D) embeddings and (P,) instance of each.

    Raises:
        DataError: as `evaluation.retrieval.score_queries`, or the gallery is too small for the largest of RECALL_AT.
    """
    (z_gallery, ids_gallery), (z_queries, ids_queries) = rows[spec.gallery], rows[spec.queries]
    from_gallery, to_gallery = cross_modal_scores(
        z_gallery, ids_gallery, z_queries, ids_queries, how=spec.aggregation, ties=spec.ties
    )
    check_k(max(RECALL_AT), min(len(from_gallery.query_ids), len(to_gallery.query_ids)))
    return dict(zip(directions(spec), (to_gallery, from_gallery), strict=True))


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
