"""TupleInfoNCE: an intact tuple against other tuples and against tuples with one modality of another scene.

Liu et al., "Contrastive Multimodal Fusion with TupleInfoNCE", ICCV 2021. The denominator holds, for anchor i,

    e^{s_i+} + sum_{j != i} e^{s_ij} + sum_k w_k sum_j e^{s_ij^k}

with s = cosine / tau. The weights enter as log w_k added to the logits of block k.

Shapes: B rows, K modalities, R disturbed copies of the batch per modality, Q rows of a queue, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Rows = Literal["all", "own", "others"]
Form = Literal["ratio", "simplex", "weight"]

# Logit of an entry that does not count. Finite, because logsumexp over a block of nothing but -inf (an anchor all of
# whose other rows are of its own scene) has a gradient of nan; exp of it is exactly 0 all the same.
EXCLUDED = -1e30


class TupleLoss(NamedTuple):
    """Loss of a batch.

    Attributes:
        loss: scalar, mean over rows; in [0, inf).
        per_row: (B,) the same for each row.
        stats: detached scalars for the log. `naive` and `disturbed_<k>`: the loss each block would give alone beside
            the positive; `share_naive`, `share_<k>`: mean softmax mass of a block; `positive_similarity`,
            `own_similarity_<k>`: mean cosine of the anchor with its positive and with its own disturbed tuple.
    """

    loss: Tensor
    per_row: Tensor
    stats: dict[str, Tensor]


class Block(NamedTuple):
    """Weighted negatives: (B, n) logits, EXCLUDED where an entry does not count, and their common weight."""

    name: str
    logits: Tensor
    weight: float


def counts(batch: int, rows: Rows, copies: int = 1, queue: int = 0) -> tuple[int, int]:
    """(n_0, n_k): naive and k-disturbed negatives that one anchor meets.

    Args:
        batch: B. copies: R, disturbed copies of the batch per modality. queue: Q, rows of each queue.
    """
    per_copy = {"all": batch, "own": 1, "others": batch - 1}[rows]
    return batch - 1 + queue, per_copy * copies + (0 if rows == "own" else queue)


def weights_from_alpha(alpha: Sequence[float], n_naive: int, n_disturbed: int, form: Form = "ratio") -> list[float]:
    """Weight w_k of every physically computed k-disturbed negative.

    Args:
        alpha: K numbers >= 0 (ratio, weight), or 1 + K that sum to 1 with alpha_0 > 0 first (simplex, the paper's q_alpha).
        n_naive: n_0. n_disturbed: n_k; see `counts`.
        form: ratio: w_k = alpha_k n_0 / n_k, i.e. alpha_k k-disturbed negatives per naive one;
            simplex: w_k = alpha_k / alpha_0 * n_0 / n_k; weight: w_k = alpha_k.

    Returns:
        K weights. All zero is naive tuple contrast.

    Raises:
        ValueError: alpha is negative, not finite, or not on the simplex where it should be.
    """
    values = [float(a) for a in alpha]
    if not all(math.isfinite(a) and a >= 0 for a in values):
        raise ValueError(f"alpha: {values}; each must be a finite number of at least 0")
    if form == "weight":
        return values
    if n_disturbed < 1:
        raise ValueError(f"alpha: no disturbed negative to weigh (n_naive {n_naive}, n_disturbed {n_disturbed})")
    if form == "ratio":
        return [a * n_naive / n_disturbed for a in values]
    if abs(sum(values) - 1) > 1e-6 or not values or values[0] <= 0:
        raise ValueError(
            f"alpha: {values}; on the simplex alpha_0 (naive, > 0) and one number per modality must sum to 1, "
            f"and they sum to {sum(values):g}; use form 'ratio' for free ratios"
        )
    return [a / values[0] * n_naive / n_disturbed for a in values[1:]]


def weighted_cross_entropy(positive_B: Tensor, blocks: Sequence[Block]) -> TupleLoss:
    """-log of the positive's share of the weighted softmax over the positive and all blocks.

    A block of weight 0 is left out, as if its logits were masked, but is still measured in the stats.

    Args:
        positive_B: logits of the positives. blocks: negatives.

    Returns:
        See `TupleLoss`; the similarities are added by `tuple_info_nce`.

    Raises:
        ValueError: a weight is negative or not finite.
    """
    for block in blocks:
        if not (math.isfinite(block.weight) and block.weight >= 0):
            raise ValueError(f"weight of block '{block.name}': {block.weight}; it must be finite and at least 0")
    masses = {}
    for block in blocks:
        with torch.set_grad_enabled(torch.is_grad_enabled() and block.weight > 0):
            masses[block.name] = block.logits.logsumexp(1)
    weighted = [masses[b.name] + math.log(b.weight) for b in blocks if b.weight > 0]
    total_B = torch.stack([positive_B, *weighted]).logsumexp(0)
    rows_B = total_B - positive_B
    with torch.no_grad():
        stats = {}
        for block in blocks:
            mass_B = masses[block.name] + (math.log(block.weight) if block.weight > 0 else EXCLUDED)
            stats[block.name] = torch.logaddexp(mass_B, positive_B).sub(positive_B).mean()
            stats[f"share_{block.name.removeprefix('disturbed_')}"] = (mass_B - total_B).exp().mean()
    return TupleLoss(rows_B.mean(), rows_B, stats)


def tuple_info_nce(
    anchor_BD: Tensor,
    positive_BD: Tensor,
    disturbed: Sequence[Tensor],
    weights: Sequence[float],
    tau: float,
    rows: Rows = "all",
    *,
    detach_keys: bool = False,
    scenes_B: Tensor | None = None,
    queue: Sequence[Tensor] | None = None,
    names: Sequence[str] | None = None,
) -> TupleLoss:
    """Tuple contrast with k-disturbed negatives (Liu et al. 2021, the objective with q_alpha as importance weights).

    The released code is rows = "all", every weight 1, 2 or 4, detached keys and tau = .07; the theory's independent
    negatives are rows = "others"; "own" keeps the hardest alone, which share K - 1 modalities with the anchor.

    Args:
        anchor_BD, positive_BD: unit-norm fused embeddings of two views; row i of both is one instance.
        disturbed: K tensors (R * B, D): row r * B + j is the tuple of row j with modality k of another row. With no
            disturbed tuples at all ([] and weights []) this is naive tuple contrast.
        weights: K numbers >= 0; see `weights_from_alpha`.
        tau: temperature > 0.
        rows: which disturbed rows anchor i meets: all, its own (j = i), or the others.
        detach_keys: no gradient into positives and disturbed tuples.
        scenes_B: scene of each row. Other rows of the anchor's scene are no negatives, neither intact nor disturbed.
        queue: 1 + K tensors (Q, D) of earlier keys, naive first; they count as other rows.
        names: K names for the stats; default 0 .. K - 1.

    Returns:
        See `TupleLoss`.

    Raises:
        ValueError: shapes, weights or tau do not fit.
    """
    names = _check(anchor_BD, positive_BD, disturbed, weights, tau, rows, queue, names)
    if detach_keys:
        positive_BD = positive_BD.detach()
        disturbed = [z.detach() for z in disturbed]
    n = len(anchor_BD)
    own_BB = torch.eye(n, dtype=torch.bool, device=anchor_BD.device)
    same_BB = own_BB if scenes_B is None else scenes_B[:, None] == scenes_B
    mates_BB = same_BB & ~own_BB

    naive_BB = _logits(anchor_BD, positive_BD, tau)
    positive_B = naive_BB.diagonal()
    blocks = [Block("naive", _with_queue(naive_BB.masked_fill(same_BB, EXCLUDED), anchor_BD, queue, 0, tau), 1.0)]
    own_similarity = {}
    for k, (z, weight) in enumerate(zip(disturbed, weights, strict=True)):
        own_BR = (anchor_BD * z.view(-1, n, z.shape[-1])).sum(-1).T
        own_similarity[f"own_similarity_{names[k]}"] = own_BR.detach().mean()
        if rows == "own":
            logits = widen(own_BR / tau)
        else:
            banned_BB = mates_BB if rows == "all" else same_BB
            logits = _logits(anchor_BD, z, tau).masked_fill(banned_BB.repeat(1, len(z) // n), EXCLUDED)
            logits = _with_queue(logits, anchor_BD, queue, 1 + k, tau)
        blocks.append(Block(f"disturbed_{names[k]}", logits, float(weight)))
    out = weighted_cross_entropy(positive_B, blocks)
    out.stats.update(positive_similarity=(positive_B.detach() * tau).mean(), **own_similarity)
    return out


def _logits(anchor_BD: Tensor, keys_ND: Tensor, tau: float) -> Tensor:
    return widen(anchor_BD @ keys_ND.T) / tau


def widen(x: Tensor) -> Tensor:
    """Half precision to float32: exp of a logit of 1/.07 overflows float16."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _with_queue(logits: Tensor, anchor_BD: Tensor, queue: Sequence[Tensor] | None, index: int, tau: float) -> Tensor:
    if queue is None or len(queue[index]) == 0:
        return logits
    return torch.cat([logits, _logits(anchor_BD, queue[index].detach(), tau)], dim=1)


def _check(
    anchor_BD: Tensor,
    positive_BD: Tensor,
    disturbed: Sequence[Tensor],
    weights: Sequence[float],
    tau: float,
    rows: str,
    queue: Sequence[Tensor] | None,
    names: Sequence[str] | None,
) -> list[str]:
    if tau <= 0:
        raise ValueError(f"tau: {tau}; it must be above 0")
    if rows not in ("all", "own", "others"):
        raise ValueError(f"rows: '{rows}'; it must be all, own or others")
    if anchor_BD.shape != positive_BD.shape or anchor_BD.ndim != 2:
        raise ValueError(f"anchor {tuple(anchor_BD.shape)} and positive {tuple(positive_BD.shape)} must both be (B, D)")
    if len(disturbed) != len(weights):
        raise ValueError(f"{len(disturbed)} disturbed blocks and {len(weights)} weights; one weight a block is needed")
    n, width = anchor_BD.shape
    for k, z in enumerate(disturbed):
        if z.ndim != 2 or z.shape[1] != width or len(z) == 0 or len(z) % n:
            raise ValueError(
                f"disturbed[{k}]: shape {tuple(z.shape)}; it must be (R * {n}, {width}) with R of 1 or more"
            )
    if queue is not None and len(queue) != 1 + len(disturbed):
        raise ValueError(f"{len(queue)} queues; {1 + len(disturbed)} are needed, naive first")
    if names is not None and len(names) != len(disturbed):
        raise ValueError(f"{len(names)} names for {len(disturbed)} disturbed blocks")
    return list(names) if names is not None else [str(k) for k in range(len(disturbed))]
