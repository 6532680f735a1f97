"""Tuple contrast of sum fusion in which each anchor meets ALL own-row replacements of its tuple, none of them built.

Shapes: B rows, K modalities, D fused width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmcontrast.losses.precision import upcast
from mmcontrast.losses.similarity import unit_rows
from mmcontrast.methods.tuple_infonce.loss import EXCLUDED, Block, TupleLoss, weighted_cross_entropy
from mmcontrast.methods.tuple_infonce.negatives import refuse_one_scene

__all__ = ["every_own_row_loss", "every_own_row_terms"]


def own_row_logits(
    anchor_BD: Tensor,
    fused_BD: Tensor,
    terms: Sequence[Tensor],
    tau: float,
    same_BB: Tensor | None = None,
    present: Sequence[Tensor | None] | None = None,
) -> list[Tensor]:
    """Scores of every anchor against ALL own-row replacements of its tuple, for sum fusion, from Gram matrices.

    With r_i = z_i - u_i the tuple of row i whose modality k comes from row j has the fused vector r_i + u_j:

        a_i . (r_i + u_j) = a_i . r_i + a_i . u_j
        |r_i + u_j|^2     = |r_i|^2 + 2 r_i . u_j + |u_j|^2

    so that B * (B - 1) disturbed tuples per modality cost two (B, D) x (D, B) products and none of them is built.

    Args:
        anchor_BD: unit-norm anchors.
        fused_BD: sum of the terms (plus bias), not normalised. terms: K tensors (B, D).
        tau: temperature.
        same_BB: True where j may not lend to i (rows of one scene); the diagonal is always excluded.
        present: K of (B,) bool, None where all rows have the modality; others neither lend it nor take it.

    Returns:
        K tensors (B, B); [i, j] = cosine / tau, EXCLUDED where i and j may not meet.
    """
    banned_BB = torch.eye(len(anchor_BD), dtype=torch.bool, device=anchor_BD.device)
    if same_BB is not None:
        banned_BB = banned_BB | same_BB
    out = []
    with torch.autocast(device_type=anchor_BD.device.type, enabled=False):
        anchor_BD, fused_BD = upcast(anchor_BD), upcast(fused_BD)
        for term_BD, has_B in zip(map(upcast, terms), present or [None] * len(terms), strict=True):
            rest_BD = fused_BD - term_BD
            dot_BB = (anchor_BD * rest_BD).sum(1, keepdim=True) + anchor_BD @ term_BD.T
            squares_BB = (rest_BD * rest_BD).sum(1, keepdim=True) + (term_BD * term_BD).sum(1)
            square_BB = squares_BB + 2 * rest_BD @ term_BD.T
            # rounding may leave a tiny negative square where r_i and u_j cancel
            norm_BB = square_BB.clamp_min(torch.finfo(square_BB.dtype).eps).sqrt()
            banned = banned_BB if has_B is None else banned_BB | ~(has_B[:, None] & has_B)
            out.append((dot_BB / (norm_BB * tau)).masked_fill(banned, EXCLUDED))
    return out


def every_own_row_terms(
    anchor: Tensor,
    fused: Tensor,
    terms: Mapping[str, Tensor],
    weights: Sequence[float],
    tau: float,
    scenes: Tensor | None = None,
    present: Sequence[Tensor | None] | None = None,
) -> TupleLoss:
    """Tuple contrast of sum fusion in which each anchor meets ALL own-row replacements; see `own_row_logits`.

    The rest of the objective is that of `tuple_info_nce_terms`. The statistic `own_similarity_<m>` is the mean
    over all replacements.

    Args:
        anchor: (B, D) unit-norm anchors. fused: (B, D) keys as sums of their terms, not normalised.
        terms: modality -> (B, D). weights: one per modality, >= 0; blocks of weight 0 are measured without gradient.
        tau: temperature. scenes: (B,) scene of each row; rows of one scene do not meet, nor lend to one another.
        present: of each modality (B,) bool, None where all rows have it; others neither lend it nor take it.

    Raises:
        TrainingError: all rows are of one scene.
    """
    same_BB = torch.eye(len(anchor), dtype=torch.bool, device=anchor.device)
    if scenes is not None:
        refuse_one_scene(scenes)
        same_BB = scenes[:, None] == scenes
    with torch.autocast(device_type=anchor.device.type, enabled=False):
        naive_BB = upcast(anchor) @ unit_rows(upcast(fused)).T / tau
    blocks = [Block("naive", naive_BB.masked_fill(same_BB, EXCLUDED), 1.0)]
    similarity = {"positive_similarity": tau * naive_BB.diagonal().detach().mean()}
    gram = own_row_logits(anchor, fused, list(terms.values()), tau, same_BB, present)
    for name, weight, logits_BB in zip(terms, weights, gram, strict=True):
        blocks.append(Block(f"disturbed_{name}", logits_BB, float(weight)))
        met = logits_BB.detach()[logits_BB > EXCLUDED]
        if len(met):
            similarity[f"own_similarity_{name}"] = tau * met.mean()
    out = weighted_cross_entropy(naive_BB.diagonal(), blocks)
    out.stats.update(similarity)
    return out


def every_own_row_loss(
    anchor: Tensor, fused: Tensor, terms: Mapping[str, Tensor], weights: Sequence[float], tau: float, **options: Any
) -> Tensor:
    """The scalar of `every_own_row_terms`, which says what the arguments are."""
    return every_own_row_terms(anchor, fused, terms, weights, tau, **options).loss
