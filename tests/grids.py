"""The grid of this repository, for tests that only read it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from mmcontrast.config import Grid


@cache
def grid_of(suite: str = "default") -> Grid:
    """All of params/ under a suite, read once per process, which takes 0.3 s; not to be changed."""
    return Grid(Path(__file__).parents[1], suite)
