"""M3CoL's two contrastive losses: M3Co, which matches mixtures to both parents, and MultiSClip, with soft targets.

Source: Kumar et al., "Harnessing Shared Relations via Multimodal Mixup Contrastive Learning for Multimodal
Classification", TMLR 2025, arXiv 2409.17777. The paper's own text could not be read; the formulas are those of the
released code (github RaghavSinghal10/M3CoL), of the paper's figures and captions.

Shapes: B batch, D width.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from mmcontrast.losses.rows import check_pair, cosine_logits, full_precision, over_rows, shared_rows
from mmcontrast.losses.supervised import bidirectional_cross_entropy

__all__ = ["m3co", "m3co_pair", "multisclip", "multisclip_pair"]

Pairs = Sequence[tuple[str, str]]


@full_precision
def m3co_pair(mixed: Tensor, clean: Tensor, targets: Tensor, tau: float) -> Tensor:
    """1/2 [CE(S, P) + CE(S^T, P^T)], S = cos(mixed a, clean b) / tau: a mixture must match both of its parents in b.

    The columns of P are not renormalised. With every lambda = 1 it is the symmetric InfoNCE. Scalar, >= 0; log B where
    all embeddings are alike.

    Where paper and released code differ: the released code compares mixed a with MIXED b (an in-place edit of a shared
    copy), with targets that know of a's mixing alone; the paper's figures compare with clean b, as here.

    Args:
        mixed: mixed embeddings of a, not normalised (normalising first would change the method).
        targets: `mix_targets` of a's lambda and partners.

    Raises:
        ContrastError: shapes differ, B < 2 or tau <= 0.
    """
    check_pair(mixed, clean, tau)
    return bidirectional_cross_entropy(cosine_logits(mixed, clean, tau), targets, targets.T)


def m3co(
    mixed: Mapping[str, Tensor], clean: Mapping[str, Tensor], targets: Mapping[str, Tensor], pairs: Pairs, tau: float
) -> Tensor:
    """Sum (not mean) of `m3co_pair` over directed pairs (a, b): mixed a against clean b under a's targets.

    Where paper and released code differ: the code takes a ring of three modalities (3 of 6 ordered pairs); whether the
    paper's text says ring or all pairs is not known.

    Args:
        mixed, clean: modality -> (B, D). targets: modality -> (B, B).
    """
    return torch.stack([m3co_pair(mixed[a], clean[b], targets[a], tau) for a, b in pairs]).sum()


@full_precision
def multisclip_pair(a: Tensor, b: Tensor, tau: float, detach_targets: bool = False) -> Tensor:
    """1/2 [CE(S, Q) + CE(S^T, Q)], S = cos(a, b) / tau, Q = row softmax of cos(b, b) / tau.

    Instances that resemble each other in modality b share the target mass, so that relations are many to many. Q serves
    both directions as it is, not transposed. Not symmetric in a and b. Scalar, >= 0.

    The released code lets the gradient flow through Q, so the model can reshape its own targets; `detach_targets` stops
    that.

    Args:
        tau: one temperature for predictions and targets.

    Raises:
        ContrastError: shapes differ, B < 2 or tau <= 0.
    """
    check_pair(a, b, tau)
    targets_BB = cosine_logits(b, b, tau).softmax(dim=-1)
    if detach_targets:
        targets_BB = targets_BB.detach()
    return bidirectional_cross_entropy(cosine_logits(a, b, tau), targets_BB, targets_BB)


def multisclip(
    z: Mapping[str, Tensor],
    pairs: Pairs,
    tau: float,
    detach_targets: bool = False,
    present: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Sum of `multisclip_pair` over directed pairs, on unmixed embeddings.

    Args:
        z: modality -> (B, D). present: modality -> (B,) bool, of those that a row may lack; a pair is of the rows that
            have both, see `losses.rows`.
    """
    has = present or {}
    loss = partial(multisclip_pair, tau=tau, detach_targets=detach_targets)
    return torch.stack([over_rows(loss, shared_rows(has.get(a), has.get(b)), z[a], z[b]) for a, b in pairs]).sum()
