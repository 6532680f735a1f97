"""GRAM's and TRIANGLE's loss: cross-entropy of minus the volume, or the area, that a tuple of unit rows spans.

Source: Cicchetti et al., "Gramian Multimodal Representation Learning and Alignment", ICLR 2025, as in the released code
(ispamm/GRAM, utils/volume.py and model/gram.py); TRIANGLE, NeurIPS 2025 (arXiv 2509.24734; ispamm/TRIANGLE,
utils/area.py).

Shapes: N instances (of all ranks), K modalities, P width. [i, j]: anchor of row i with the other modalities of row j.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.errors import ContrastError
from mmcontrast.losses.precision import full_precision
from mmcontrast.losses.similarity import check_pair, unit_rows

__all__ = ["gram_loss", "gram_symmetric_loss"]

Form = Literal["volume", "triangle"]


@full_precision
def gram_loss(
    anchor: Tensor,
    others: Sequence[Tensor],
    tau: float | Tensor = 0.07,
    *,
    smoothing: float = 0.1,
    form: Form = "volume",
    eps: float = 1e-8,
    without_root: bool = False,
) -> Tensor:
    """[ CE(-V / tau, i = i) + CE(-V^T / tau, i = i) ] / 2. Scalar; log N where all V are alike.

    V[i, j] is the volume of the parallelotope that anchor_i and the others' rows j span, in [0, 1]: 0 where they lie
    in a space of fewer dimensions, 1 where all are at right angles. Of two modalities it is |sin|, so that opposite
    vectors count as the same. form: triangle is the area between the tips of three, in [0, 1.3].

    With smoothing the loss has a bound above 0 that depends on N and tau: its value is not one in bits.

    Where paper and released code differ: TRIANGLE's code has no root, which gives twice the squared area
    (`without_root`). GRAM's code takes |det| in float32 without `eps`, whose gradient is infinite at 0; here the
    determinant is that of Gram and Schmidt, never below 0. Its further matching term, which needs a multimodal encoder,
    is left out.

    Args:
        anchor: (N, P), any scale. others: K - 1 tensors (N, P). tau: > 0.
        smoothing: of the targets, in [0, 1). eps: added under the root.

    Raises:
        ContrastError: no others, or of a triangle not two, shapes that differ, N < 2 or tau <= 0.
    """
    if not others or (form == "triangle" and len(others) != 2):
        wanted = "of exactly three" if form == "triangle" else "of at least two"
        raise ContrastError(f"GRAM: form {form} is a contrast {wanted} modalities, and got {1 + len(others)}")
    for z_NP in others:
        check_pair(anchor, z_NP, tau)
    rows = unit_rows(anchor), *(unit_rows(z_NP) for z_NP in others)
    logits_NN = -(_volumes(*rows, eps=eps) if form == "volume" else _areas(*rows, eps=eps, root=not without_root)) / tau
    own_N = torch.arange(len(anchor), device=anchor.device)
    both = [F.cross_entropy(s_NN, own_N, label_smoothing=smoothing) for s_NN in (logits_NN, logits_NN.T)]
    return torch.stack(both).mean()


def gram_symmetric_loss(embeddings: Sequence[Tensor], tau: float | Tensor = 0.07, **options: Any) -> Tensor:
    """Mean of `gram_loss` over every modality as the anchor, which the paper has not; options: as there."""
    tuples = [(z_NP, [*embeddings[:k], *embeddings[k + 1 :]]) for k, z_NP in enumerate(embeddings)]
    return torch.stack([gram_loss(anchor, others, tau, **options) for anchor, others in tuples]).mean()


def _volumes(anchor_NP: Tensor, *others: Tensor, eps: float) -> Tensor:
    """(N, N): sqrt(det Gram(anchor_i, others_j) + eps), the others made orthogonal one after another, row by row."""
    basis: list[Tensor] = []
    squared_N = anchor_NP.new_ones(len(anchor_NP))
    for rest_NP in others:
        for q_NP in basis:
            rest_NP = rest_NP - (rest_NP * q_NP).sum(dim=1, keepdim=True) * q_NP
        squared_N = squared_N * rest_NP.square().sum(dim=1)
        basis.append(unit_rows(rest_NP))
    distance_NN = anchor_NP.square().sum(dim=1)[:, None]
    for q_NP in basis:
        distance_NN = distance_NN - (anchor_NP @ q_NP.T).square()
    return (squared_N * distance_NN.clamp(min=0) + eps).sqrt()


def _areas(a_NP: Tensor, b_NP: Tensor, c_NP: Tensor, eps: float, root: bool) -> Tensor:
    """(N, N): sqrt(|u|^2 |v|^2 - <u, v>^2 + eps) / 2 of u = a_i - b_j, v = a_i - c_j; without the root the code's."""
    squared_a_N1, ab_NN, ac_NN = a_NP.square().sum(dim=1)[:, None], a_NP @ b_NP.T, a_NP @ c_NP.T
    u_NN = squared_a_N1 + b_NP.square().sum(dim=1) - 2 * ab_NN
    v_NN = squared_a_N1 + c_NP.square().sum(dim=1) - 2 * ac_NN
    uv_NN = squared_a_N1 - ab_NN - ac_NN + (b_NP * c_NP).sum(dim=1)
    squared_NN = (u_NN * v_NN - uv_NN.square()).clamp(min=0)
    return ((squared_NN + eps).sqrt() if root else squared_NN) / 2
