"""Losses with a place for what modalities share and for what one has alone: FactorCL, DeCUR and DisentangledSSL.

FactorCL has bounds on mutual information from a matrix of critic scores, scores[i, j] = f(x_i, y_j), and an objective
made of six of them: Liang et al. 2023, "Factorized Contrastive Learning", eqs. 5-9, in the form of the released code.

The others take embeddings (N, P), row k of each of the same instance, and raise ContrastError for fewer than two
modalities, shapes that differ, N < 2 or tau <= 0. `present`: one (N,) bool per modality, None where all rows have it; a
term is over the rows that have what it compares, and weighs as `losses.rows` says.

Shapes: N instances (of all ranks), K modalities, P width.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.errors import ContrastError
from mmcontrast.losses.pairwise import cmc, info_nce
from mmcontrast.losses.rows import check_pair, full_precision, over_rows, unit_rows

__all__ = [
    "barlow_twins",
    "club_bound",
    "club_critic_loss",
    "decur_loss",
    "disentangled_shared_loss",
    "disentangled_specific_loss",
    "factorcl_loss",
    "factorcl_terms",
    "info_nce_bound",
    "orthogonality",
]


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


Present = Sequence[Tensor | None] | None


@full_precision
def barlow_twins(a: Tensor, b: Tensor, target: float = 1.0, off_diagonal: float = 0.0051) -> Tensor:
    """sum_i (C_ii - target)^2 + off_diagonal sum_{i != j} C_ij^2, C = standardised(a)^T standardised(b) / N. >= 0.

    Standardised is every dimension over the rows, with the biased variance and 1e-5 added to it. target: 1 = alike, 0 =
    uncorrelated. Source: Zbontar et al., ICML 2021.
    """
    check_pair(a, b, 1.0)
    a_NP, b_NP = (F.batch_norm(z, None, None, training=True) for z in (a, b))
    c_PP = a_NP.T @ b_NP / len(a)
    diagonal_P = c_PP.diagonal()
    off = c_PP.square().sum() - diagonal_P.square().sum()
    return (diagonal_P - target).square().sum() + off_diagonal * off


def decur_loss(
    views1: Sequence[Tensor],
    views2: Sequence[Tensor],
    common: int,
    off_diagonal: float = 0.0051,
    present: Present = None,
) -> Tensor:
    """( sum_m B(z'_m, z''_m) + sum over pairs [ B(common blocks) + B_0(unique blocks) ] / 2 ) / number of terms. >= 0.

    B: Barlow Twins, of two augmented views. Of two modalities' first views the first `common` dimensions (1 to P - 1)
    are drawn to correlation 1, the others to 0; blocks between the two kinds are free.

    Source: Wang et al., "DeCUR", ECCV 2024, as released (zhu-xlab/DeCUR), of two modalities, for four GPUs alone.
    """
    loss, k = partial(barlow_twins, off_diagonal=off_diagonal), len(views1)

    def between(a_NP: Tensor, b_NP: Tensor, tau: float) -> Tensor:
        return (loss(a_NP[:, :common], b_NP[:, :common]) + loss(a_NP[:, common:], b_NP[:, common:], 0.0)) / 2

    has, n_pairs = present or [None] * k, k * (k - 1) // 2
    pairs = cmc(views1, 1.0, between, present)
    within = [over_rows(loss, rows_N, a, b) for a, b, rows_N in zip(views1, views2, has, strict=True)]
    return (torch.stack(within).sum() + n_pairs * pairs) / (k + n_pairs)


@full_precision
def disentangled_shared_loss(
    shared: Sequence[Tensor], tau: float = 0.07, beta: float = 0.5, present: Present = None
) -> Tensor:
    """Step 1: mean over pairs of CLIP(e_a, e_b) - beta mean_i cos(e_a, e_b). Of any sign.

    Source: Wang, Gupta et al., ICLR 2025 (arXiv 2410.23996), as released (uhlerlab/DisentangledSSL), of two modalities;
    it draws from von Mises-Fisher distributions around the embeddings, or takes their means, as here.
    """

    def loss(a: Tensor, b: Tensor, tau: float) -> Tensor:
        return info_nce(a, b, tau) - beta * (unit_rows(a) * unit_rows(b)).sum(dim=1).mean()

    return cmc(shared, tau, loss, present)


@full_precision
def orthogonality(a: Tensor, b: Tensor) -> Tensor:
    """Frobenius norm of unit(a)^T unit(b), P x P, summed over the rows: it grows with N. >= 0.

    Part of `disentangled_specific_loss`.
    """
    return torch.linalg.norm(unit_rows(a).T @ unit_rows(b))


def disentangled_specific_loss(
    shared: Sequence[Sequence[Tensor]], specific: Sequence[Sequence[Tensor]], tau: float = 0.07, weight: float = 0.1
) -> Tensor:
    """Step 2: sum_m CLIP(joint_m', joint_m'') + weight / 2 sum over views and m of orthogonality(s_m, e_m). >= 0.

    Of each of two augmented views K tensors; joint_m is s_m beside e of every other modality. The caller keeps `shared`
    fixed. Source: as step 1.
    """
    views, terms = list(zip(shared, specific, strict=True)), []
    for m in range(len(shared[0])):
        first, second = (torch.cat([s[m], *e[:m], *e[m + 1 :]], dim=-1) for e, s in views)
        apart = torch.stack([orthogonality(s[m], e[m]) for e, s in views]).mean()
        terms.append(info_nce(first, second, tau) + weight * apart)
    return torch.stack(terms).sum()
