"""Inputs of the reference vectors of the methods of 2022 to 2026: exact, without a random generator."""

from __future__ import annotations

import torch
from torch import Tensor


def rows(m: int, n: int = 4, d: int = 5) -> Tensor:
    """A(m): (n, d) float64 in [-1, 1]."""
    i, j = torch.arange(n)[:, None], torch.arange(d)[None, :]
    return ((73 * i + 179 * j + 283 * m + 31 * i * j + 17 * m * j + 59 * i * m + 11) % 97).double() / 48 - 1


def unit(m: int, n: int = 4, d: int = 5) -> Tensor:
    """U(m): A(m), every row over its norm."""
    a = rows(m, n, d)
    return a / a.norm(dim=1, keepdim=True)
