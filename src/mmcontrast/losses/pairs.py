"""Which modalities are contrasted with which."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Literal

from mmcontrast.errors import ContrastError

Pairing = Literal["ring", "all"]


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
