"""Random numbers for the rows of this rank, equal to those one process would draw.

Shapes: b rows of this rank, B rows of the global batch.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Draws:
    """Draws for the global batch, from which a rank takes its rows.

    The generator lives on the CPU. Small draws are made there and moved; large ones (noise for each pixel) on the
    batch's own device, from a seed that the generator gives.

    Args:
        total: B. rows: those of this rank.
    """

    def __init__(self, generator: torch.Generator, total: int, rows: slice, device: torch.device) -> None:
        self.generator, self.total, self.rows, self.device = generator, total, rows, device

    def uniform(self, width: int = 1) -> Tensor:
        """(b, width) in [0, 1)."""
        return torch.rand(self.total, width, generator=self.generator)[self.rows].to(self.device)

    def between(self, low: float, high: float) -> Tensor:
        """(b, 1) in [low, high)."""
        return low + (high - low) * self.uniform()

    def chance(self, p: float) -> Tensor:
        """(b, 1) bool, True with probability p."""
        return self.uniform() < p

    def normal(self, *shape: int) -> Tensor:
        """(b, *shape) of N(0, 1)."""
        generator = self.generator
        if self.device.type != "cpu":
            seed = int(torch.randint(2**62, (), generator=self.generator))
            generator = torch.Generator(self.device).manual_seed(seed)
        return torch.randn(self.total, *shape, generator=generator, device=self.device)[self.rows]

    def order(self, count: int) -> list[int]:
        """A permutation of range(count), one for the whole batch."""
        return torch.randperm(count, generator=self.generator).tolist()
