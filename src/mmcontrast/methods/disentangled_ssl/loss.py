"""DisentangledSSL's losses: of what modalities share, and of what each has beside it.

Source: Wang, Gupta et al., "An Information Criterion for Controlled Disentanglement of Multimodal Data", ICLR 2025
(arXiv 2410.23996), as in the released code (uhlerlab/DisentangledSSL, synthetic_task/algorithms.py and losses.py), which is of
two modalities; other numbers of them are ours.

Shapes: N instances (of all ranks), K modalities, D width of a modality's shared or specific embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from mmcontrast.errors import ContrastError
from mmcontrast.losses.pairwise import info_nce
from mmcontrast.losses.precision import full_precision
from mmcontrast.losses.rows import over_rows, shared_rows
from mmcontrast.losses.similarity import unit_rows

__all__ = ["disentangled_shared_loss", "disentangled_specific_loss", "orthogonality"]


def disentangled_shared_loss(
    shared: Sequence[Tensor],
    tau: float = 0.07,
    beta: float = 0.5,
    present: Sequence[Tensor | None] | None = None,
) -> Tensor:
    """Step 1: mean over pairs of CLIP(e_a, e_b) - beta mean_i cos(e_a, e_b). A scalar of any sign.

    The released code draws what it contrasts from von Mises-Fisher distributions of concentration 1,000 around the
    embeddings; here it is their means, which the code has too.

    Args:
        shared: K tensors (N, D), any scale. tau: > 0.
        present: one (N,) bool per modality, None where all rows have it; a pair weighs as `losses.rows` says.

    Raises:
        ContrastError: fewer than two modalities, shapes that differ, N < 2 or tau <= 0.
    """
    if len(shared) < 2:
        raise ContrastError(f"DisentangledSSL: needs at least two modalities, and got {len(shared)}")

    @full_precision
    def loss(a: Tensor, b: Tensor) -> Tensor:
        return info_nce(a, b, tau) - beta * (unit_rows(a) * unit_rows(b)).sum(dim=1).mean()

    has = present or [None] * len(shared)
    pairs = combinations(range(len(shared)), 2)
    return torch.stack([over_rows(loss, shared_rows(has[i], has[j]), shared[i], shared[j]) for i, j in pairs]).mean()


@full_precision
def orthogonality(a: Tensor, b: Tensor) -> Tensor:
    """Frobenius norm of unit(a)^T unit(b), D x D, summed over the rows: it grows with N. >= 0. a, b: (N, D)."""
    return torch.linalg.norm(unit_rows(a).T @ unit_rows(b))


def disentangled_specific_loss(
    shared: Sequence[Sequence[Tensor]], specific: Sequence[Sequence[Tensor]], tau: float = 0.07, weight: float = 0.1
) -> Tensor:
    """Step 2: sum_m CLIP(joint_m', joint_m'') + weight / 2 sum over views and m of orthogonality(s_m, e_m). Scalar.

    joint_m is [s_m, e of every other modality]. The caller keeps `shared` fixed.

    Args:
        shared, specific: of each of two augmented views, K tensors (N, D). tau: > 0.

    Raises:
        ContrastError: fewer than two modalities, lists or shapes that differ, N < 2 or tau <= 0.
    """
    counts = {len(part) for part in (*shared, *specific)}
    if len(shared) != 2 or len(specific) != 2 or len(counts) != 1 or min(counts) < 2:
        raise ContrastError(
            "DisentangledSSL: needs two views, in each a shared and a specific embedding of the same two or more "
            f"modalities, and got {[len(part) for part in (*shared, *specific)]}"
        )
    terms = []
    for m in range(len(shared[0])):
        first, second = (torch.cat([s[m], *e[:m], *e[m + 1 :]], dim=-1) for e, s in zip(shared, specific, strict=True))
        apart = torch.stack([orthogonality(s[m], e[m]) for e, s in zip(shared, specific, strict=True)]).mean()
        terms.append(info_nce(first, second, tau) + weight * apart)
    return torch.stack(terms).sum()
