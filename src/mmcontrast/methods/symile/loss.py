"""Symile's loss: InfoNCE of one modality against tuples of the others, scored by the multilinear inner product.

Source: Saporta, Puli, Goldstein and Ranganath, "Contrasting with Symile", NeurIPS 2024, as in the released code
(rajesh-lab/symile, symile/loss.py).

Shapes: N instances (of all ranks), K modalities, P width, C combinations of rows of K - 1 modalities.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from mmcontrast.errors import ContrastError
from mmcontrast.losses.cross_entropy import label_cross_entropy
from mmcontrast.losses.precision import full_precision
from mmcontrast.losses.similarity import check_pair, unit_rows

__all__ = ["symile_loss"]

Permutations = Sequence[Sequence[Tensor]]


@full_precision
def symile_loss(
    embeddings: Sequence[Tensor], scale: float | Tensor = 10.0, permutations: Permutations | None = None
) -> Tensor:
    """Mean over modalities k and rows i of cross-entropy( scale MIP(z_k[i], others) ), MIP(a, b, ..) = sum_d a_d b_d ..

    The others of a row are tuples of one row from each other modality, of which the row's own is the positive. Of two
    modalities it is CLIP's loss at tau = 1 / scale. All embeddings alike give (K - 1) ln N, or ln N of drawn tuples.

    Args:
        embeddings: K tensors (N, P), any scale. scale: > 0.
        permutations: for each modality as the anchor, a (N,) permutation of each other one in their order: tuple j is
            row p_o[j] of modality o, and row i sees tuples j != i. None = all N^(K - 1) combinations.

    Raises:
        ContrastError: fewer than two modalities, shapes that differ, N < 2, scale <= 0, or too few permutations.
    """
    if len(embeddings) < 2:
        raise ContrastError(f"Symile: contrast between modalities needs at least two, and got {len(embeddings)}")
    for z_NP in embeddings:
        check_pair(embeddings[0], z_NP, scale)
    wanted = [len(embeddings) - 1] * len(embeddings)
    if permutations is not None and [len(of) for of in permutations] != wanted:
        raise ContrastError(f"Symile: needs {wanted} permutations, and got {[len(of) for of in permutations]}")
    rows = [unit_rows(z_NP) for z_NP in embeddings]
    terms = []
    for k, anchor_NP in enumerate(rows):
        others = rows[:k] + rows[k + 1 :]
        if permutations is None:
            terms.append(_all(anchor_NP, others, scale))
        else:
            terms.append(_drawn(anchor_NP, others, permutations[k], scale))
    return torch.stack(terms).mean()


def _all(anchor_NP: Tensor, others: Sequence[Tensor], scale: float | Tensor) -> Tensor:
    n = len(anchor_NP)
    products_CP = reduce(lambda c_CP, z_NP: (c_CP[:, None] * z_NP).flatten(0, 1), others)
    # the combination (i, .., i) has number i (1 + N + N^2 + ..)
    step = (n ** len(others) - 1) // (n - 1)
    return label_cross_entropy(scale * anchor_NP @ products_CP.T, torch.arange(n, device=anchor_NP.device) * step)


def _drawn(
    anchor_NP: Tensor, others: Sequence[Tensor], permutations: Sequence[Tensor], scale: float | Tensor
) -> Tensor:
    drawn = [z_NP[p_N.to(z_NP.device)] for z_NP, p_N in zip(others, permutations, strict=True)]
    logits_NN = scale * (anchor_NP @ reduce(torch.mul, drawn).T)
    positive_N = scale * (anchor_NP * reduce(torch.mul, others)).sum(dim=1)
    row_N = torch.arange(len(anchor_NP), device=anchor_NP.device)
    return label_cross_entropy(logits_NN.diagonal_scatter(positive_N), row_N)
