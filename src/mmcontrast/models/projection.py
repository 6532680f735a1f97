"""Projection head of a contrastive loss, and the critics of FactorCL.

Shapes: B batch, D width in, P width out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from mmcontrast.errors import TrainingError


class ProjectionHead(nn.Module):
    """Linear - BN - ReLU - ... - Linear: (B, D) -> (B, P); CoMM's critic is [D, 512, 512, 256].

    Batch statistics are those of the rows given: hand it the gathered global batch, so that any number of ranks
    computes what one would.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths[:-1]):
            layers += [nn.Linear(fan_in, fan_out), nn.BatchNorm1d(fan_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))

    def forward(self, z_BD: Tensor) -> Tensor:
        """Raises TrainingError for a batch of one row in training: it has no variance to normalise by."""
        if self.training and len(z_BD) < 2:
            raise TrainingError(
                "a projection head with batch normalisation was given a batch of one instance; choose a `batch_size` "
                "that leaves no batch of one"
            )
        out_BP: Tensor = self.layers(z_BD)
        return out_BP


class PairCritic(nn.Module):
    """FactorCL's critic: scores f(x_i, y_j) = MLP([x_i, y_j]) of all pairs, (B, B).

    The first layer is linear in each part, so it is taken once a row and once a column rather than once a pair.
    """

    def __init__(self, width_x: int, width_y: int, hidden: int = 512) -> None:
        super().__init__()
        self.from_x, self.from_y = nn.Linear(width_x, hidden), nn.Linear(width_y, hidden, bias=False)
        self.rest = nn.Sequential(nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, x_BD: Tensor, y_BD: Tensor) -> Tensor:
        pairs_BBh = self.from_x(x_BD)[:, None, :] + self.from_y(y_BD)[None, :, :]
        return torch.squeeze(self.rest(pairs_BBh), -1)
