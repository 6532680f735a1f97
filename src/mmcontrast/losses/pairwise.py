"""Contrast of paired embeddings: InfoNCE between two modalities, NT-Xent between two views, and both over many pairs;
what CyCLIP adds to CLIP's loss, and what CLOOB puts in its place.

Where instances may lack a modality, `present` says which rows have it; a pair is of the rows that have both, and its
loss weighs as `losses.rows` says. Shapes that differ, fewer than two rows and tau <= 0 raise ContrastError.

Shapes: B batch, N instances, D or P width, R = 2N rows; M modalities are list positions or names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.errors import ContrastError
from mmcontrast.losses.rows import check_pair, cosine_logits, full_precision, over_rows, shared_rows, unit_rows
from mmcontrast.losses.supervised import label_cross_entropy

__all__ = ["cloob", "cmc", "cyclic_consistency", "info_nce", "nt_xent", "paired_info_nce", "self_contrast"]


Present = Mapping[str, Tensor]


@full_precision
def info_nce(a: Tensor, b: Tensor, tau: float | Tensor) -> Tensor:
    """1/2 [CE(S, i = i) + CE(S^T, i = i)], S = cos(a, b) / tau: each row finds its own partner among B.

    Source: the loss of CLIP (Radford et al., ICML 2021, figure 3), with a fixed temperature instead of a learned one.
    Scalar, >= 0; log B where all embeddings are alike. Symmetric in a and b.

    Args:
        a, b: (B, D), row k of one the partner of row k of the other; any scale. tau: temperature, > 0.

    Raises:
        ContrastError: shapes differ, B < 2 or tau <= 0.
    """
    check_pair(a, b, tau)
    logits_BB = cosine_logits(a, b, tau)
    own_B = torch.arange(len(logits_BB), device=logits_BB.device)
    return (label_cross_entropy(logits_BB, own_B) + label_cross_entropy(logits_BB.T, own_B)) / 2


def paired_info_nce(
    z: Mapping[str, Tensor], pairs: Sequence[tuple[str, str]], tau: float, present: Present | None = None
) -> Tensor:
    """Sum of `info_nce` over directed pairs, so that it is M3Co without mixing.

    Two modalities are therefore counted in both orders, as M3Co counts them.

    Args:
        z: modality -> (B, D). present: modality -> (B,) bool, of those that a row may lack.
    """
    has = present or {}
    loss = partial(info_nce, tau=tau)
    return torch.stack([over_rows(loss, shared_rows(has.get(a), has.get(b)), z[a], z[b]) for a, b in pairs]).sum()


@full_precision
def nt_xent(first: Tensor, second: Tensor, tau: float = 0.1) -> Tensor:
    """Mean over all 2N rows of -log( exp(s_ip / tau) / sum_{k != i} exp(s_ik / tau) ), s the cosine, p the partner.

    The denominator of a row holds its partner and the 2N-2 other rows of BOTH views. Identical embeddings give
    ln(2N-1). Source: SimCLR (Chen et al. 2020, eq. 1); it is the estimator of CoMM's released code.

    Args:
        first, second: the two views, row k of one the partner of row k of the other; any scale.
        tau: temperature, > 0.

    Raises:
        ContrastError: shapes differ, N < 2 or tau <= 0.
    """
    check_pair(first, second, tau)
    n = len(first)
    z_RD = unit_rows(torch.cat([first, second]))
    logits_RR = z_RD @ z_RD.T / tau
    self_RR = torch.eye(2 * n, dtype=torch.bool, device=z_RD.device)
    partner_R = torch.arange(2 * n, device=z_RD.device).roll(n)
    return F.cross_entropy(logits_RR.masked_fill(self_RR, -torch.inf), partner_R)


def cmc(
    embeddings: Sequence[Tensor],
    tau: float = 0.1,
    pair_loss: Callable[..., Tensor] = nt_xent,
    present: Sequence[Tensor | None] | None = None,
    anchor: int | None = None,
) -> Tensor:
    """Mean of a loss over all pairs of modalities. Source: Tian et al. 2020, full graph; NT-Xent as in CoMM's code.

    Args:
        embeddings: one (N, D) tensor per modality, at least two.
        tau: temperature, > 0.
        pair_loss: of two modalities' embeddings and tau; with `info_nce` it is CLIP's loss, over pairs.
        present: one (N,) bool per modality, None where all rows have it.
        anchor: position of the modality that every pair has; None = every pair there is.

    Raises:
        ContrastError: fewer than two modalities, shapes that differ, N < 2, tau <= 0.
    """
    if len(embeddings) < 2:
        raise ContrastError(f"contrast between modalities needs at least two, and got {len(embeddings)}")
    loss = partial(pair_loss, tau=tau)
    has = present or [None] * len(embeddings)
    pairs = [pair for pair in combinations(range(len(embeddings)), 2) if anchor is None or anchor in pair]
    terms = [over_rows(loss, shared_rows(has[i], has[j]), embeddings[i], embeddings[j]) for i, j in pairs]
    return torch.stack(terms).mean()


def self_contrast(
    views1: Sequence[Tensor],
    views2: Sequence[Tensor],
    tau: float = 0.1,
    present: Sequence[Tensor | None] | None = None,
) -> Tensor:
    """Mean over modalities of `nt_xent` between two augmented views of the same modality (SimCLR in each of them).

    Args:
        views1, views2: one (N, D) tensor per modality from each augmentation.
        tau: temperature, > 0.
        present: one (N,) bool per modality, None where all rows have it.

    Raises:
        ContrastError: the lists differ in length or are empty, shapes differ, N < 2, tau <= 0.
    """
    if len(views1) != len(views2) or not views1:
        raise ContrastError(f"self contrast: {len(views1)} modalities in one view and {len(views2)} in the other")
    loss, has = partial(nt_xent, tau=tau), present or [None] * len(views1)
    return torch.stack([over_rows(loss, rows, a, b) for a, b, rows in zip(views1, views2, has, strict=True)]).mean()


@full_precision
def cyclic_consistency(a: Tensor, b: Tensor, within: float = 0.25, across: float = 0.25) -> Tensor:
    """within / N sum_ij (a_i.a_j - b_i.b_j)^2 + across / N sum_ij (a_i.b_j - b_i.a_j)^2, beside CLIP's loss. >= 0.

    a, b: (N, P), any scale. Source: Goel et al., "CyCLIP", NeurIPS 2022, as released (goel-shashank/CyCLIP).
    """
    check_pair(a, b, 1.0)
    a_NP, b_NP = unit_rows(a), unit_rows(b)
    across_NN = a_NP @ b_NP.T
    inside = (a_NP @ a_NP.T - b_NP @ b_NP.T).square().sum()
    between = (across_NN - across_NN.T).square().sum()
    return (within * inside + across * between) / len(a_NP)


@full_precision
def cloob(a: Tensor, b: Tensor, tau: float | Tensor = 1 / 30, beta: float = 8.0) -> Tensor:
    """tau ( LOOB(a of a, b of a) + LOOB(b of b, a of b) ): InfoLOOB on what rows retrieve from a store. Of any sign.

    a, b: (N, P), any scale. x of s is the unit mean of the rows of s, weighed by softmax(beta x.s); LOOB(x, y) = mean_i
    [ lse_{j != i} x_i.y_j / tau - x_i.y_i / tau ]. Source: Fuerst et al., "CLOOB", NeurIPS 2022, as released
    (ml-jku/cloob), where tau is 1 / 30, and a factor that the paper's formula has not.
    """
    check_pair(a, b, tau)
    a_NP, b_NP = unit_rows(a), unit_rows(b)

    def retrieved(x_NP: Tensor, store_NP: Tensor) -> Tensor:
        return unit_rows((beta * x_NP @ store_NP.T).softmax(dim=1) @ store_NP)

    def loob(x_NP: Tensor, y_NP: Tensor) -> Tensor:
        logits_NN = x_NP @ y_NP.T / tau
        self_NN = torch.eye(len(logits_NN), dtype=torch.bool, device=logits_NN.device)
        return (logits_NN.masked_fill(self_NN, -torch.inf).logsumexp(dim=1) - logits_NN.diagonal()).mean()

    return tau * (
        loob(retrieved(a_NP, a_NP), retrieved(b_NP, a_NP)) + loob(retrieved(b_NP, b_NP), retrieved(a_NP, b_NP))
    )
