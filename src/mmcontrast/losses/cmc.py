"""Contrast between modalities: over all pairs (CMC), and with a self-supervised term beside it (Cross+Self).

Shapes: N instances, D width; M modalities are list positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor

from mmcontrast.errors import ContrastError
from mmcontrast.losses.nt_xent import nt_xent


def cmc(
    embeddings_ND: Sequence[Tensor], tau: float = 0.1, pair_loss: Callable[[Tensor, Tensor, float], Tensor] = nt_xent
) -> Tensor:
    """Mean of a loss over all pairs of modalities. Source: Tian et al. 2020, full graph; NT-Xent as in CoMM's code.

    Args:
        embeddings_ND: one (N, D) tensor a modality, at least two.
        tau: temperature, > 0.
        pair_loss: of two modalities' embeddings and tau; with `info_nce` it is CLIP's loss, over pairs.

    Raises:
        ContrastError: fewer than two modalities, shapes that differ, N < 2, tau <= 0.
    """
    if len(embeddings_ND) < 2:
        raise ContrastError(f"CMC: contrast between modalities needs at least two, and got {len(embeddings_ND)}")
    return torch.stack([pair_loss(a, b, tau) for a, b in combinations(embeddings_ND, 2)]).mean()


def self_contrast(views1_ND: Sequence[Tensor], views2_ND: Sequence[Tensor], tau: float = 0.1) -> Tensor:
    """Mean over modalities of NT-Xent between two augmented views of the same modality (SimCLR in each of them).

    Args:
        views1_ND, views2_ND: one (N, D) tensor a modality from each augmentation.
        tau: temperature, > 0.

    Raises:
        ContrastError: the lists differ in length or are empty, shapes differ, N < 2, tau <= 0.
    """
    if len(views1_ND) != len(views2_ND) or not views1_ND:
        raise ContrastError(f"self contrast: {len(views1_ND)} modalities in one view and {len(views2_ND)} in the other")
    return torch.stack([nt_xent(a, b, tau) for a, b in zip(views1_ND, views2_ND, strict=True)]).mean()


def cross_self(
    embeddings_ND: Sequence[Tensor],
    views1_ND: Sequence[Tensor],
    views2_ND: Sequence[Tensor],
    tau: float = 0.1,
    weight: float = 1.0,
) -> Tensor:
    """Cross+Self as CoMM's code has it: CMC between modalities + `weight` times SimCLR within each of them.

    The paper's own text puts a CLIP loss on linear projectors in the place of the first term; a method that wants this
    adds `info_nce` and `self_contrast` itself.

    Args:
        embeddings_ND: un-augmented embeddings, one (N, D) tensor a modality.
        views1_ND, views2_ND: embeddings of two augmentations.
        tau: temperature of both terms. weight: lambda of the self term.
    """
    return cmc(embeddings_ND, tau) + weight * self_contrast(views1_ND, views2_ND, tau)
