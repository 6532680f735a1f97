"""Heads: embedding(s) -> scores of what is to be predicted, and what those scores say.

Shapes: N training rows, B rows, C classes, labels or quantities.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.config.metrics import Kind
from mmcontrast.models.mlp import mlp


def classification_head(cell: CellConfig, n_embeddings: int) -> nn.Sequential:
    """(B, n_embeddings * width) -> (B, C): an MLP with the cell's hidden widths, scores without softmax or sigmoid.

    Args:
        n_embeddings: 1 for the head of one modality, M for the fusion head on concatenated embeddings.
    """
    return mlp([n_embeddings * cell.model.width, *cell.model.head_hidden, len(cell.classes)])


class TargetScale(nn.Module):
    """Mean and spread of the quantities of a regression among the training rows, which travel with the weights.

    Heads learn numbers of mean 0 and variance 1, so that their loss and their learning rate do not depend on units.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, n: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("spread", torch.ones(n))

    def fit(self, labels: Tensor) -> None:
        """From (N, C) labels; a quantity that does not vary keeps its unit."""
        spread_C, mean_C = torch.std_mean(labels.double(), dim=0, correction=0)
        self.mean.copy_(mean_C)
        self.spread.copy_(torch.where(spread_C > 0, spread_C, 1))

    def scaled(self, labels: Tensor) -> Tensor:
        """(B, C) as heads learn it."""
        return (labels - self.mean.to(labels)) / self.spread.to(labels)

    def forward(self, scores: Tensor) -> Tensor:
        """(B, C) scores of a head in the units of the data."""
        return scores * self.spread + self.mean


def as_predictions(kind: Kind, scores: Tensor, scale: TargetScale | None) -> Tensor:
    """(B, C) probabilities of classes or of labels, or numbers in the units of the data."""
    if kind == "classes":
        return scores.softmax(-1)
    return scores.sigmoid() if scale is None else scale(scores)
