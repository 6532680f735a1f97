"""TupleInfoNCE: an intact tuple against other tuples and against tuples with one modality of another scene.

Liu et al., "Contrastive Multimodal Fusion with TupleInfoNCE", ICCV 2021. The denominator holds, for anchor i,

    e^{s_i+} + sum_{j != i} e^{s_ij} + sum_k w_k sum_j e^{s_ij^k}

with s = cosine / tau. The weights enter as log w_k added to the logits of block k. Of sum fusion there is a form in
which each anchor meets ALL own-row replacements of its tuple, none of them built.

Shapes: B rows, K modalities, R disturbed copies of the batch per modality, D width.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from mmcontrast.errors import ContrastError
from mmcontrast.losses.rows import unit_rows, upcast
from mmcontrast.methods.tuple_infonce.negatives import refuse_one_scene

__all__ = ["every_own_row_loss", "every_own_row_terms", "tuple_info_nce", "tuple_info_nce_terms"]


Rows = Literal["all", "own", "others", "every_own"]
Form = Literal["ratio", "weight"]

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


def counts(batch: int, rows: Rows, copies: int = 1) -> tuple[int, int]:
    """(n_0, n_k): naive and k-disturbed negatives that one anchor meets.

    Args:
        batch: B. copies: R, disturbed copies of the batch per modality.
    """
    per_copy = {"all": batch, "own": 1, "others": batch - 1, "every_own": batch - 1}[rows]
    return batch - 1, per_copy * copies


def weights_from_alpha(alpha: Sequence[float], n_naive: int, n_disturbed: int, form: Form = "ratio") -> list[float]:
    """Weights w_k, one for every physically computed k-disturbed negative. All zero is naive tuple contrast.

    Args:
        alpha: K numbers >= 0. n_naive: n_0. n_disturbed: n_k; see `counts`.
        form: ratio: w_k = alpha_k n_0 / n_k, i.e. alpha_k k-disturbed negatives per naive one; weight: w_k = alpha_k.

    Raises:
        ValueError: alpha is negative or not finite.
    """
    values = [float(a) for a in alpha]
    if not all(math.isfinite(a) and a >= 0 for a in values):
        raise ValueError(f"alpha: {values}; each must be a finite number of at least 0")
    if form == "weight":
        return values
    if n_disturbed < 1:
        raise ValueError(f"alpha: no disturbed negative to weigh (n_naive {n_naive}, n_disturbed {n_disturbed})")
    return [a * n_naive / n_disturbed for a in values]


def weighted_cross_entropy(positive_B: Tensor, blocks: Sequence[Block]) -> TupleLoss:
    """-log of the positive's share of the weighted softmax over the positive and all blocks.

    A block of weight 0 is left out, as if its logits were masked, but is still measured in the stats, to which the
    caller adds the similarities. positive_B: logits of the positives.

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


def tuple_info_nce_terms(
    anchor: Tensor,
    positive: Tensor,
    disturbed: Sequence[Tensor],
    weights: Sequence[float],
    tau: float,
    rows: Rows = "all",
    *,
    detach_keys: bool = False,
    scenes: Tensor | None = None,
    names: Sequence[str] | None = None,
    present: Sequence[Tensor | None] | None = None,
) -> TupleLoss:
    """Tuple contrast with k-disturbed negatives (Liu et al. 2021, the objective with q_alpha as importance weights).

    The released code is rows = "all", every weight 1, 2 or 4, detached keys and tau = .07; the theory's independent
    negatives are rows = "others"; "own" keeps the hardest alone, which share K - 1 modalities with the anchor.

    Args:
        anchor, positive: (B, D) unit-norm fused embeddings of two views; row i of both is one instance.
        disturbed: K tensors (R * B, D): row r * B + j is the tuple of row j with modality k of another row. With no
            disturbed tuples at all ([] and weights []) this is naive tuple contrast.
        weights: K numbers >= 0; see `weights_from_alpha`.
        tau: temperature > 0.
        rows: which disturbed rows anchor i meets: all, its own (j = i), or the others.
        detach_keys: no gradient into positives and disturbed tuples.
        scenes: (B,) scene of each row. Other rows of the anchor's scene are no negatives, neither intact nor disturbed.
        names: K names for the stats; default 0 .. K - 1.
        present: K of (B,) bool, None where all rows have modality k: no anchor meets the k-disturbed tuple of a row
            that lacks it, which is none. Weights are as if all rows had it, as `losses.rows` has it.

    Raises:
        ValueError: shapes, weights or tau do not fit.
    """
    names = [str(k) for k in range(len(disturbed))] if names is None else names
    _check(anchor, positive, disturbed, tau, rows)
    lists: list[tuple[Sequence[Any] | None, int, str]] = [
        (weights, len(disturbed), "weights, one per disturbed block"),
        (names, len(disturbed), "names of disturbed blocks"),
    ]
    for given, wanted, what in lists:
        if given is not None and len(given) != wanted:
            raise ValueError(f"{len(given)} {what}; {wanted} are needed")
    # autocast would turn the products back to half precision, in which a logit of 14 has a step of 1/16
    with torch.autocast(device_type=anchor.device.type, enabled=False):
        keys = [upcast(z.detach() if detach_keys else z) for z in (positive, *disturbed)]
        # dividing the anchors saves a pass over every block of logits
        n, scaled_BD = len(anchor), upcast(anchor) / tau
        own_BB = torch.eye(n, dtype=torch.bool, device=anchor.device)
        same_BB = own_BB if scenes is None else scenes[:, None] == scenes
        banned_BB = same_BB if rows == "others" else None if scenes is None else same_BB & ~own_BB
        naive_BB = scaled_BD @ keys[0].T
        positive_B = naive_BB.diagonal()
        naive = naive_BB.masked_fill(same_BB, EXCLUDED)
        blocks = [Block("naive", naive, 1.0)]
        similarity = {"positive_similarity": tau * positive_B.detach().mean()}
        for k, (weight, has_B) in enumerate(zip(weights, present or [None] * len(weights), strict=True)):
            key_RBD = keys[1 + k].view(-1, n, keys[0].shape[1])
            if rows == "own":
                logits = own_BR = torch.einsum("id,rid->ir", scaled_BD, key_RBD)
                if has_B is not None:
                    logits = logits.masked_fill(~has_B[:, None], EXCLUDED)
            else:
                logits = scaled_BD @ keys[1 + k].T
                own_BR = logits.detach().view(n, -1, n).diagonal(dim1=0, dim2=2).T
                absent_BB = None if has_B is None else ~has_B.expand(n, n)
                if out_BB := [x for x in (banned_BB, absent_BB) if x is not None]:
                    banned = torch.stack(out_BB).any(dim=0)
                    logits = logits.masked_fill(banned.repeat(1, len(key_RBD)), EXCLUDED)
            own_BR = own_BR.detach() if has_B is None else own_BR.detach()[has_B]
            similarity[f"own_similarity_{names[k]}"] = tau * own_BR.mean()
            blocks.append(Block(f"disturbed_{names[k]}", logits, float(weight)))
        out = weighted_cross_entropy(positive_B, blocks)
    out.stats.update(similarity)
    return out


def tuple_info_nce(
    anchor: Tensor, positive: Tensor, disturbed: Sequence[Tensor], weights: Sequence[float], tau: float, **options: Any
) -> Tensor:
    """The scalar of `tuple_info_nce_terms`, which says what the arguments are."""
    return tuple_info_nce_terms(anchor, positive, disturbed, weights, tau, **options).loss


def _check(anchor_BD: Tensor, positive_BD: Tensor, disturbed: Sequence[Tensor], tau: float, rows: str) -> None:
    if tau <= 0:
        raise ValueError(f"tau: {tau}; it must be above 0")
    if rows not in ("all", "own", "others"):
        raise ValueError(f"rows: '{rows}'; it must be all, own or others")
    if anchor_BD.shape != positive_BD.shape or anchor_BD.ndim != 2:
        raise ValueError(f"anchor {tuple(anchor_BD.shape)} and positive {tuple(positive_BD.shape)} must both be (B, D)")
    if len(anchor_BD) == 0:
        raise ContrastError("a batch without rows leaves nothing to contrast")
    n, width = anchor_BD.shape
    for k, z in enumerate(disturbed):
        if z.ndim != 2 or z.shape[1] != width or len(z) == 0 or len(z) % n:
            raise ValueError(
                f"disturbed[{k}]: shape {tuple(z.shape)}; it must be (R * {n}, {width}) with R of 1 or more"
            )


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
