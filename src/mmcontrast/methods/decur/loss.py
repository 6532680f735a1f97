"""DeCUR's loss: cross-correlations of dimensions, without negatives.

Source: Wang et al., "Decoupling Common and Unique Representations for Multimodal Self-supervised Learning", ECCV 2024,
as in the released code (zhu-xlab/DeCUR, src/pretrain/models/decur.py); of one modality it is Barlow Twins (Zbontar et
al., ICML 2021). Where paper and released code differ: the code divides by the batch of four GPUs whatever their number.

Shapes: N instances (of all ranks), K modalities, P width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.errors import ContrastError
from mmcontrast.losses.precision import full_precision
from mmcontrast.losses.rows import over_rows, shared_rows
from mmcontrast.losses.similarity import check_pair

__all__ = ["barlow_twins", "decur_loss", "decur_terms"]


@full_precision
def barlow_twins(a: Tensor, b: Tensor, target: float = 1.0, off_diagonal: float = 0.0051) -> Tensor:
    """sum_i (C_ii - target)^2 + off_diagonal sum_{i != j} C_ij^2, C = standardised(a)^T standardised(b) / N. >= 0.

    Standardised is every dimension over the rows, with the biased variance and 1e-5 added to it.

    Args:
        a, b: (N, P), row k of one the partner of row k of the other. target: 1 = alike, 0 = uncorrelated.

    Raises:
        ContrastError: shapes differ or N < 2.
    """
    check_pair(a, b, 1.0)
    a_NP, b_NP = (F.batch_norm(z, None, None, training=True) for z in (a, b))
    c_PP = a_NP.T @ b_NP / len(a)
    diagonal_P = c_PP.diagonal()
    off = c_PP.square().sum() - diagonal_P.square().sum()
    return (diagonal_P - target).square().sum() + off_diagonal * off


def decur_loss(views1: Sequence[Tensor], views2: Sequence[Tensor], common: int, off_diagonal: float = 0.0051) -> Tensor:
    """A scalar; `decur_terms` says what the arguments are and gives its terms too."""
    return decur_terms(views1, views2, common, off_diagonal)["loss"]


def decur_terms(
    views1: Sequence[Tensor],
    views2: Sequence[Tensor],
    common: int,
    off_diagonal: float = 0.0051,
    present: Sequence[Tensor | None] | None = None,
) -> dict[str, Tensor]:
    """( within + (common + unique) / 2 ) / (K + pairs), with one pair of two modalities as in the paper.

    within: Barlow Twins of two augmented views of a modality, summed over modalities. common, unique: of the first
    views of two modalities, the first `common` dimensions drawn to correlation 1, the others to 0, summed over pairs.
    Blocks between common and unique dimensions are free.

    Args:
        views1, views2: K tensors (N, P) of each augmentation. common: dimensions, 1 to P - 1.
        present: one (N,) bool per modality, None where all rows have it; a term weighs as `losses.rows` says.

    Raises:
        ContrastError: fewer than two modalities, lists or shapes that differ, N < 2, or `common` out of range.
    """
    k = len(views1)
    if k < 2 or k != len(views2):
        raise ContrastError(f"DeCUR: needs two views of at least two modalities, and got {k} and {len(views2)} tensors")
    if not 0 < common < views1[0].shape[-1]:
        raise ContrastError(f"DeCUR: common: {common} of {views1[0].shape[-1]} dimensions leaves a block without any")
    loss = partial(barlow_twins, off_diagonal=off_diagonal)
    has = present or [None] * k
    within = [over_rows(loss, rows_N, a, b) for a, b, rows_N in zip(views1, views2, has, strict=True)]
    terms: dict[str, list[Tensor]] = {"within": within, "common": [], "unique": []}
    for i, j in combinations(range(k), 2):
        for name, block, target in (("common", slice(common), 1.0), ("unique", slice(common, None), 0.0)):
            parts = views1[i][:, block], views1[j][:, block]
            terms[name].append(over_rows(partial(loss, target=target), shared_rows(has[i], has[j]), *parts))
    sums = {name: torch.stack(found).sum() for name, found in terms.items()}
    between = (sums["common"] + sums["unique"]) / 2
    return {"loss": (sums["within"] + between) / (k + len(terms["common"])), **sums}
