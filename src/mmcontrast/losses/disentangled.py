"""Losses with a place for what modalities share and for what one has alone: DeCUR and DisentangledSSL.

Embeddings are (N, P), row k of each of the same instance. Each loss raises ContrastError for fewer than two
modalities, shapes that differ, N < 2 or tau <= 0. `present`: one (N,) bool per modality, None where all rows have it; a
term is over the rows that have what it compares, and weighs as `losses.rows` says.

Shapes: N instances (of all ranks), K modalities, P width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.losses.pairwise import cmc, info_nce
from mmcontrast.losses.precision import full_precision
from mmcontrast.losses.rows import over_rows
from mmcontrast.losses.similarity import check_pair, unit_rows

__all__ = ["barlow_twins", "decur_loss", "disentangled_shared_loss", "disentangled_specific_loss", "orthogonality"]

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
