"""ConFu's loss: pairs of modalities, and fused subsets of them against each modality outside.

Source: Koutoupis et al., "ConFu" (arXiv 2511.21331), as in the released code (estafons/confu,
src/modules/models/confu.py), which is of three modalities; other numbers of them are ours.

Shapes: N instances (of all ranks), P width.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import combinations

import torch
from torch import Tensor

from mmcontrast.errors import ContrastError
from mmcontrast.losses.pairwise import info_nce
from mmcontrast.losses.rows import over_rows, shared_rows

__all__ = ["confu_loss"]

Subset = tuple[str, ...]


def confu_loss(
    z: Mapping[str, Tensor],
    fused: Mapping[Subset, Tensor],
    tau: float = 0.07,
    weight: float = 0.5,
    present: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """( weight sum CLIP(f_S, z_m) + (1 - weight) sum CLIP(z_m, z_o) ) / number of terms. Scalar, >= 0.

    The first sum is over the subsets S of `fused` and the modalities m outside each, the second over pairs. Where there
    are no subsets, or their weight is 0, it is the mean over pairs: Cross. The divisor counts the terms and not their
    weights, so that at a weight of 1/2 each weighs half as much as in that mean.

    Args:
        z: modality -> (N, P). fused: modalities of a subset -> (N, P). Any scale. tau: > 0. weight: in [0, 1].
        present: modality -> (N,) bool, of those that a row may lack; a term is of the rows that have all it is made of,
            and weighs as `losses.rows` says.

    Raises:
        ContrastError: fewer than two modalities, a subset of others or without a modality outside it, shapes that
            differ, N < 2 or tau <= 0.
    """
    if len(z) < 2:
        raise ContrastError(f"ConFu: contrast between modalities needs at least two, and got {len(z)}")
    for subset in fused:
        if not set(subset) < set(z):
            raise ContrastError(f"ConFu: {subset} is to be a subset of the modalities {tuple(z)}, and not all of them")
    has, loss = present or {}, partial(info_nce, tau=tau)

    def term(a: Tensor, b: Tensor, *of: str) -> Tensor:
        return over_rows(loss, shared_rows(*(has.get(m) for m in of)), a, b)

    pairs = torch.stack([term(z[a], z[b], a, b) for a, b in combinations(z, 2)])
    outside = [term(f_NP, z[m], m, *subset) for subset, f_NP in fused.items() for m in z if m not in subset]
    if not outside or weight == 0:
        return pairs.mean()
    return (weight * torch.stack(outside).sum() + (1 - weight) * pairs.sum()) / (len(outside) + len(pairs))
