"""CoMM written slowly and plainly in NumPy, float64: what the fast forms are held against.

The toy embeddings are closed-form, so every number in the tests can be worked out again from this file.
"""

from __future__ import annotations

import math

import numpy as np


def toy(tag: int, n: int = 4, d: int = 3) -> np.ndarray:
    """Un-normalised (n, d) embedding of view `tag`."""
    row, col = np.meshgrid(np.arange(n), np.arange(d), indexing="ij")
    return np.sin(1.0 + 0.7 * row + 1.3 * col + 0.45 * tag + 0.11 * tag * row * (col + 1))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def nt_xent(first: np.ndarray, second: np.ndarray, tau: float) -> float:
    """Row by row over the 2N rows, nothing shared."""
    n, rows = len(first), [*first, *second]
    total = 0.0
    for i, anchor in enumerate(rows):
        partner = (i + n) % (2 * n)
        denominator = sum(math.exp(cosine(anchor, other) / tau) for k, other in enumerate(rows) if k != i)
        total += math.log(denominator) - cosine(anchor, rows[partner]) / tau
    return total / (2 * n)


def terms(view1: list[np.ndarray], view2: list[np.ndarray], tau: float) -> list[float]:
    return [0.5 * (nt_xent(a, view2[-1], tau) + nt_xent(b, view1[-1], tau)) for a, b in zip(view1, view2, strict=True)]
