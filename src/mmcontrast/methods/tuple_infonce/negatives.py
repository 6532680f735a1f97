"""Tuples in which one modality comes from another row, made from features rather than from inputs.

Shapes: B rows, K modalities, R source draws per modality, D fused width, d width of one modality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmcontrast.errors import TrainingError
from mmcontrast.losses.similarity import unit_rows
from mmcontrast.methods.tuple_infonce.derangement import refuse_one_scene
from mmcontrast.methods.tuple_infonce.loss import EXCLUDED, Block, TupleLoss, weighted_cross_entropy, widen


def tuple_batch(features: Sequence[Tensor], sources: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The intact tuples and every disturbed one as ONE batch, so that batch statistics cannot tell them apart.

    Works on inputs (early fusion) and on encoded features (late fusion) of any shape.

    Args:
        features: K tensors (B, ...), one a modality.
        sources: for each modality k, R_k index tensors (B,); see `derangement`. [] = modality k is never disturbed.

    Returns:
        K tensors (B * (1 + sum R_k), ...): first the intact rows, then the blocks of k = 0 (R_0 of B rows), k = 1, ...
    """
    _check_lengths(features, sources)
    n, device = len(features[0]), features[0].device
    own_B = torch.arange(n, device=device)
    out = []
    for m, feature in enumerate(features):
        index = [own_B]
        for k, draws in enumerate(sources):
            index += [draw_B.to(device) if k == m else own_B for draw_B in draws]
        out.append(feature.index_select(0, torch.cat(index)))
    return out


def swap_terms(fused_BD: Tensor, terms: Sequence[Tensor], sources: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Disturbed sums z - u_k + u_k[source], for a fusion that adds one term per modality.

    Exact for linear (sum) fusion, and for the first layer of an MLP on concatenated features, whose pre-activation is
    such a sum: the layer's products are then computed once for the B intact rows, whatever K and R.

    Args:
        fused_BD: sum of the terms, plus a bias if the layer has one.
        terms: K tensors (B, D).
        sources: as in `tuple_batch`.

    Returns:
        K tensors (R_k * B, D).
    """
    _check_lengths(terms, sources)
    out = []
    for term_BD, draws in zip(terms, sources, strict=True):
        rest_BD = fused_BD - term_BD
        # index_select: the backward pass of term_BD[draw_B] is several times slower on a CPU
        blocks = [rest_BD + term_BD.index_select(0, draw_B.to(term_BD.device)) for draw_B in draws]
        out.append(torch.cat(blocks) if blocks else rest_BD[:0])
    return out


def own_row_logits(
    anchor_BD: Tensor, fused_BD: Tensor, terms: Sequence[Tensor], tau: float, same_BB: Tensor | None = None
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

    Returns:
        K tensors (B, B); [i, j] = cosine / tau, EXCLUDED where i and j may not meet.
    """
    banned_BB = torch.eye(len(anchor_BD), dtype=torch.bool, device=anchor_BD.device)
    if same_BB is not None:
        banned_BB = banned_BB | same_BB
    out = []
    with torch.autocast(device_type=anchor_BD.device.type, enabled=False):
        anchor_BD, fused_BD = widen(anchor_BD), widen(fused_BD)
        for term_BD in map(widen, terms):
            rest_BD = fused_BD - term_BD
            dot_BB = (anchor_BD * rest_BD).sum(1, keepdim=True) + anchor_BD @ term_BD.T
            squares_BB = (rest_BD * rest_BD).sum(1, keepdim=True) + (term_BD * term_BD).sum(1)
            square_BB = squares_BB + 2 * rest_BD @ term_BD.T
            # rounding may leave a tiny negative square where r_i and u_j cancel
            norm_BB = square_BB.clamp_min(torch.finfo(square_BB.dtype).eps).sqrt()
            out.append((dot_BB / (norm_BB * tau)).masked_fill(banned_BB, EXCLUDED))
    return out


def every_own_row_loss(
    anchor_BD: Tensor,
    fused_BD: Tensor,
    terms: Mapping[str, Tensor],
    weights: Sequence[float],
    tau: float,
    scenes_B: Tensor | None = None,
) -> TupleLoss:
    """Tuple contrast of sum fusion in which each anchor meets ALL own-row replacements; see `own_row_logits`.

    Args:
        anchor_BD: unit-norm anchors. fused_BD: keys as sums of their terms, not normalised.
        terms: modality -> (B, D). weights: one a modality, >= 0; blocks of weight 0 are measured without gradient.
        tau: temperature. scenes_B: scene of each row; rows of one scene do not meet, nor lend to one another.

    Returns:
        See `TupleLoss`; `own_similarity_<m>` is the mean over all replacements.

    Raises:
        TrainingError: all rows are of one scene.
    """
    same_BB = torch.eye(len(anchor_BD), dtype=torch.bool, device=anchor_BD.device)
    if scenes_B is not None:
        refuse_one_scene(scenes_B)
        same_BB = scenes_B[:, None] == scenes_B
    with torch.autocast(device_type=anchor_BD.device.type, enabled=False):
        naive_BB = widen(anchor_BD) @ unit_rows(widen(fused_BD)).T / tau
    blocks = [Block("naive", naive_BB.masked_fill(same_BB, EXCLUDED), 1.0)]
    similarity = {"positive_similarity": tau * naive_BB.diagonal().detach().mean()}
    gram = own_row_logits(anchor_BD, fused_BD, list(terms.values()), tau, same_BB)
    for name, weight, logits_BB in zip(terms, weights, gram, strict=True):
        blocks.append(Block(f"disturbed_{name}", logits_BB, float(weight)))
        similarity[f"own_similarity_{name}"] = tau * logits_BB.detach()[~same_BB].mean()
    out = weighted_cross_entropy(naive_BB.diagonal(), blocks)
    out.stats.update(similarity)
    return out


def check_disturbable(inputs: Mapping[str, Tensor]) -> None:
    """Refuse modalities that cannot be disturbed: fewer than two, or one that is the same in every row.

    A constant modality makes each own-row disturbed tuple equal to the positive, and the loss cannot fall below
    log(1 + w). Meant for the whole training set, once, before any view noise is added.

    Args:
        inputs: modality -> (N, ...) rows of the training split.

    Raises:
        TrainingError: naming the modality.
    """
    if len(inputs) < 2:
        raise TrainingError(
            f"disturbed tuples need at least two modalities, and there is {', '.join(inputs) or 'none'}; "
            "with one, a disturbed tuple is just another row's tuple"
        )
    for name, x in inputs.items():
        if len(x) > 1 and bool((x == x[:1]).all()):
            raise TrainingError(
                f"modality '{name}' is the same in all {len(x)} training rows, so a tuple disturbed in it equals the "
                "intact one; drop the modality, or check how the dataset was prepared"
            )


def _check_lengths(features: Sequence[Tensor], sources: Sequence[Sequence[Tensor]]) -> None:
    if len(sources) != len(features):
        raise ValueError(f"sources for {len(sources)} modalities, and there are {len(features)}")
