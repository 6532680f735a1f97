"""FactorCL: bounds on mutual information from a matrix of critic scores, and the objective made of six of them.

Shapes: N instances; scores[i, j] = f(x_i, y_j).
Source: Liang et al. 2023, "Factorized Contrastive Learning", eqs. 5-9, in the form of the released code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from mmcontrast.errors import ContrastError

__all__ = ["club_bound", "club_critic_loss", "factorcl_loss", "factorcl_terms", "info_nce_bound"]

# sign with which each bound enters the MAXIMISED objective
LOWER_TERMS = ("cross", "self1", "self2", "conditional")
UPPER_TERMS = ("cross_club", "conditional_club")


def _check(scores: Tensor) -> None:
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or len(scores) < 2:
        raise ContrastError(
            f"FactorCL: scores of all pairs of a batch are a square matrix of at least 2 x 2, not {tuple(scores.shape)}"
        )


def info_nce_bound(scores: Tensor) -> Tensor:
    """Lower bound on I(X;Y): mean_i f(x_i, y_i) - mean_j( log sum_i exp f(x_i, y_j) - ln N ). At most ln N.

    Raises:
        ContrastError: not a square matrix of at least 2 x 2.
    """
    _check(scores)
    return scores.diagonal().mean() - (scores.logsumexp(dim=0).mean() - math.log(len(scores)))


def club_bound(scores: Tensor) -> Tensor:
    """Upper bound on I(X;Y) where the critic is optimal: mean_i f(x_i, y_i) - mean_ij f(x_i, y_j).

    The critic of an upper bound is trained by `club_critic_loss` alone, never by this value.

    Raises:
        ContrastError: not a square matrix of at least 2 x 2.
    """
    _check(scores)
    return scores.diagonal().mean() - scores.mean()


def club_critic_loss(scores: Mapping[str, Tensor]) -> Tensor:
    """What critics of the two upper bounds are trained on between main steps: minus `info_nce_bound` of the scores."""
    return torch.stack([-info_nce_bound(scores[name]) for name in UPPER_TERMS]).sum()


def factorcl_terms(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """J = -I(x1;x2) + club(x1;x2|x1',x2') - I(x1;x1') - I(x2;x2') + club(x1;x2) - I(x1;x2|x1',x2'), to be minimised.

    Args:
        scores: a (N, N) matrix for each of: cross, self1, self2, conditional (lower bounds), cross_club,
            conditional_club (upper bounds). Conditioning = the critic sees each x_i beside its augmented x_i'.

    Returns:
        every term as it enters the sum, and `loss`.

    Raises:
        ContrastError: a term is missing or is no square matrix.
    """
    missing = [t for t in (*LOWER_TERMS, *UPPER_TERMS) if t not in scores]
    if missing:
        raise ContrastError(f"FactorCL: no scores for {', '.join(missing)}")
    terms = {name: -info_nce_bound(scores[name]) for name in LOWER_TERMS}
    terms |= {name: club_bound(scores[name]) for name in UPPER_TERMS}
    return {**terms, "loss": torch.stack(list(terms.values())).sum()}


def factorcl_loss(scores: Mapping[str, Tensor]) -> Tensor:
    """J of `factorcl_terms`, a scalar of any sign."""
    return factorcl_terms(scores)["loss"]
