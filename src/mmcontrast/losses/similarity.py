"""Unit rows, cosine similarities, which modalities are compared, and what a contrastive loss demands of its arguments.

Shapes: B batch, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Literal

from torch import Tensor

from mmcontrast.errors import ContrastError

Pairing = Literal["ring", "all"]

SHORTEST = 1e-12  # norm below which a row has no direction


def unit_rows(z: Tensor) -> Tensor:
    """(..., D) vectors over their Euclidean norm.

    A row shorter than 1e-12 has no direction: it becomes zeros, of gradient 0. With the norm merely clamped, as in
    `torch.nn.functional.normalize`, its gradient would be 1e12 times what comes back, and 1e24 times where it is
    normalised twice; one such step spoils an optimizer's moments for good. A row whose norm is no number of its type
    becomes NaN, so that training ends there: divided by infinity it would be zeros, and the loss a calm log(B).
    """
    norm = z.norm(dim=-1, keepdim=True)
    return (z / norm.clamp_min(SHORTEST)).masked_fill(norm < SHORTEST, 0.0).masked_fill(norm.isinf(), float("nan"))


def check_pair(a_BD: Tensor, b_BD: Tensor, tau: float | Tensor) -> None:
    """Raise ContrastError unless a and b are (B, D) alike with B >= 2, and tau is above 0."""
    if a_BD.ndim != 2 or a_BD.shape != b_BD.shape:
        raise ContrastError(
            f"a contrastive loss compares two (batch, width) tensors of one shape, and was given "
            f"{tuple(a_BD.shape)} and {tuple(b_BD.shape)}"
        )
    if a_BD.shape[0] < 2:
        raise ContrastError(
            f"a batch of {a_BD.shape[0]} leaves nothing to contrast with; choose a `batch_size` "
            "that leaves no last batch of one instance"
        )
    if not tau > 0:
        raise ContrastError(f"a temperature must be above 0, and is {tau}")


def cosine_logits(a_BD: Tensor, b_BD: Tensor, tau: float | Tensor) -> Tensor:
    """(B, B) cosine similarities over the temperature: [i, j] = cos(a_i, b_j) / tau, in [-1/tau, 1/tau].

    Normalisation happens here, hence after any mixing; the order matters. A zero row has similarity 0 with all.
    """
    return unit_rows(a_BD) @ unit_rows(b_BD).T / tau


def modality_pairs(modalities: Sequence[str], pairing: Pairing) -> list[tuple[str, str]]:
    """Directed pairs (a, b), a looking up b.

    ring: each modality with the next, the last with the first (M pairs). all: every ordered pair (M (M - 1)).
    For two modalities both are (1, 2), (2, 1).

    Raises:
        ContrastError: fewer than two modalities, or a pairing that is neither.
    """
    if len(modalities) < 2:
        raise ContrastError(f"a contrast between modalities needs at least two, and there is {list(modalities)}")
    if pairing == "ring":
        return [(a, modalities[(k + 1) % len(modalities)]) for k, a in enumerate(modalities)]
    if pairing == "all":
        return list(permutations(modalities, 2))
    raise ContrastError(f"pairing '{pairing}' is not known; known: all, ring")
