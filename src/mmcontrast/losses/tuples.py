"""Losses of tuples of modalities: Symile, GRAM with TRIANGLE, GMC, ConFu.

Embeddings are (N, P), row k of each of the same instance, of any scale. Each loss is a scalar, and raises ContrastError
for fewer than two modalities, shapes that differ, N < 2 or tau <= 0.

Shapes: N instances (of all ranks), K modalities, P width, C combinations of rows of K - 1 modalities.
"""

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.errors import ContrastError
from mmcontrast.losses.pairwise import cmc, info_nce, nt_xent
from mmcontrast.losses.rows import check_pair, full_precision, over_rows, shared_rows, unit_rows

__all__ = ["confu_loss", "gmc_loss", "gram_loss", "symile_loss"]

Subset = tuple[str, ...]


def _units(embeddings: Sequence[Tensor], tau: float | Tensor) -> list[Tensor]:
    if len(embeddings) < 2:
        raise ContrastError(f"a contrast between modalities needs at least two, and got {len(embeddings)}")
    for z_NP in embeddings:
        check_pair(embeddings[0], z_NP, tau)
    return [unit_rows(z_NP) for z_NP in embeddings]


@full_precision
def symile_loss(
    embeddings: Sequence[Tensor], tau: float | Tensor = 0.1, permutations: Sequence[Sequence[Tensor]] | None = None
) -> Tensor:
    """Mean over modalities k and rows i of cross-entropy( MIP(z_k[i], others) / tau ), MIP(a, b, ..) = sum_d a_d b_d ..

    The others are tuples of one row of each other modality; the positive is row i of all. Of two modalities it is
    CLIP's loss. All alike give (K - 1) ln N, or ln N of drawn tuples.

    Source: Saporta et al., "Contrasting with Symile", NeurIPS 2024, as released (rajesh-lab/symile, symile/loss.py).

    Args:
        permutations: for each modality as the anchor, (N,) of each other one in their order: row i sees the tuples
            j != i of rows p_o[j]. None = all N^(K - 1) combinations.
    """
    rows, n, terms = _units(embeddings, tau), len(embeddings[0]), []
    own_N = torch.arange(n, device=embeddings[0].device)
    for k, anchor_NP in enumerate(rows):
        others = rows[:k] + rows[k + 1 :]
        if permutations is None:
            products_CP = reduce(lambda c_CP, z_NP: (c_CP[:, None] * z_NP).flatten(0, 1), others)
            # the combination (i, .., i) has number i (1 + N + N^2 + ..)
            step = (n ** len(others) - 1) // (n - 1)
            terms.append(F.cross_entropy(anchor_NP @ products_CP.T / tau, own_N * step))
        else:
            drawn = [z_NP[p_N.to(z_NP.device)] for z_NP, p_N in zip(others, permutations[k], strict=True)]
            positive_N = (anchor_NP * reduce(torch.mul, others)).sum(dim=1)
            logits_NN = (anchor_NP @ reduce(torch.mul, drawn).T).diagonal_scatter(positive_N)
            terms.append(F.cross_entropy(logits_NN / tau, own_N))
    return torch.stack(terms).mean()


@full_precision
def gram_loss(
    embeddings: Sequence[Tensor],
    tau: float | Tensor = 0.07,
    anchor: int | None = None,
    *,
    form: Literal["volume", "triangle"] = "volume",
    smoothing: float = 0.1,
    eps: float = 1e-8,
    root: bool = True,
) -> Tensor:
    """[ CE(-V / tau, i = i) + CE(-V^T / tau, i = i) ] / 2, V[i, j] spanned by the anchor's row i, the others' rows j.

    volume: of the parallelotope, in [0, 1]; of two modalities |sin|, so that opposite vectors count as the same.
    triangle: area between the tips of three. All alike give ln N. With smoothing the loss has a bound above 0.

    Source: Cicchetti et al., "Gramian Multimodal Representation Learning and Alignment", ICLR 2025 (ispamm/GRAM);
    TRIANGLE, NeurIPS 2025 (arXiv 2509.24734; ispamm/TRIANGLE). Where the released codes differ: TRIANGLE's has no root,
    which gives twice the squared area (`root`); GRAM's takes |det| in float32 without `eps`, whose gradient is infinite
    at 0. GRAM's matching term, which needs a multimodal encoder, is left out.

    Args:
        anchor: position of the modality that is exchanged between rows; None (not in the papers) = the mean over all.
        smoothing: of the targets, in [0, 1). eps: added under the root.
    """
    rows, terms = _units(embeddings, tau), []
    if form == "triangle" and len(rows) != 3:
        raise ContrastError(f"a triangle is of three modalities, and got {len(rows)}")
    squares, parts = (_volumes, 1) if form == "volume" else (_areas, 2)
    own_N = torch.arange(len(rows[0]), device=rows[0].device)
    for k in range(len(rows)) if anchor is None else [anchor]:
        squared_NN = squares(rows[k], *rows[:k], *rows[k + 1 :])
        logits_NN = -((squared_NN + eps).sqrt() if root else squared_NN) / parts / tau
        terms += [F.cross_entropy(s_NN, own_N, label_smoothing=smoothing) for s_NN in (logits_NN, logits_NN.T)]
    return torch.stack(terms).mean()


def _volumes(anchor_NP: Tensor, *others: Tensor) -> Tensor:
    """(N, N): det Gram(anchor_i, others_j), the others made orthogonal one after another, row by row."""
    basis: list[Tensor] = []
    squared_N, distance_NN = anchor_NP.new_ones(len(anchor_NP)), anchor_NP.square().sum(dim=1)[:, None]
    for rest_NP in others:
        for q_NP in basis:
            rest_NP = rest_NP - (rest_NP * q_NP).sum(dim=1, keepdim=True) * q_NP
        squared_N = squared_N * rest_NP.square().sum(dim=1)
        basis.append(unit_rows(rest_NP))
        distance_NN = distance_NN - (anchor_NP @ basis[-1].T).square()
    return squared_N * distance_NN.clamp(min=0)


def _areas(a_NP: Tensor, b_NP: Tensor, c_NP: Tensor) -> Tensor:
    """(N, N): |u|^2 |v|^2 - <u, v>^2 of u = a_i - b_j, v = a_i - c_j."""
    aa_N1, ab_NN, ac_NN = a_NP.square().sum(dim=1)[:, None], a_NP @ b_NP.T, a_NP @ c_NP.T
    uu_NN, vv_NN = aa_N1 + b_NP.square().sum(1) - 2 * ab_NN, aa_N1 + c_NP.square().sum(1) - 2 * ac_NN
    uv_NN = aa_N1 - ab_NN - ac_NN + (b_NP * c_NP).sum(dim=1)
    return (uu_NN * vv_NN - uv_NN.square()).clamp(min=0)


def gmc_loss(joint: Tensor, modalities: Sequence[Tensor], tau: float = 0.1) -> Tensor:
    """Sum over modalities m of NT-Xent(joint, z_m), joint: of all of them together. All alike give K ln(2N - 1).

    Source: Poklukar, Vasco et al., ICML 2022 (arXiv 2202.03390), as released (miguelsvasco/gmc), where the exponentials
    overflow below a tau of 0.0115; a variant there that no published run has is left out.
    """
    if not modalities:
        raise ContrastError("GMC: a joint embedding, and none of a modality to pull to it")
    return torch.stack([nt_xent(joint, z_NP, tau) for z_NP in modalities]).sum()


def confu_loss(
    z: Mapping[str, Tensor],
    fused: Mapping[Subset, Tensor],
    tau: float = 0.07,
    weight: float = 0.5,
    present: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """( weight sum CLIP(f_S, z_m) + (1 - weight) sum CLIP(z_m, z_o) ) / number of terms. >= 0.

    The first sum is over the subsets S of `fused` and the modalities m outside each, the second over pairs. Without
    subsets, or their weight, it is the mean over pairs: Cross. The divisor counts terms, not their weights.

    Source: Koutoupis et al., "ConFu" (arXiv 2511.21331), as released (estafons/confu), which is of three modalities.

    Args:
        present: modality -> (N,) bool, of those that a row may lack; a term is of the rows that have all it is made of,
            and weighs as `losses.rows` says.
    """
    has, loss = present or {}, partial(info_nce, tau=tau)
    pairs = cmc(list(z.values()), tau, info_nce, [has.get(m) for m in z])
    met = [(subset, m) for subset in fused for m in z if m not in subset]
    outside = [over_rows(loss, shared_rows(*(has.get(o) for o in (m, *s))), fused[s], z[m]) for s, m in met]
    if not outside or weight == 0:
        return pairs
    n_pairs = len(z) * (len(z) - 1) // 2
    return (weight * torch.stack(outside).sum() + (1 - weight) * n_pairs * pairs) / (len(outside) + n_pairs)
