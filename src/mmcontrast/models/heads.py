"""Classification heads: embedding(s) -> class scores."""

from __future__ import annotations

from torch import nn

from mmcontrast.config import CellConfig
from mmcontrast.models.mlp import mlp


def classification_head(cell: CellConfig, n_embeddings: int) -> nn.Sequential:
    """(B, n_embeddings * width) -> (B, C): an MLP with the cell's hidden widths, scores without softmax.

    Args:
        n_embeddings: 1 for the head of one modality, M for the fusion head on concatenated embeddings.
    """
    return mlp([n_embeddings * cell.model.width, *cell.model.head_hidden, len(cell.classes)])
