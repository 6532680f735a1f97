"""Late fusion by an MLP on concatenated encodings, taken apart so that one modality can be exchanged cheaply.

The first layer of such an MLP is a sum of one term a modality. A tuple with one modality of another row needs only a
sum of terms that are there already, and then the rest of the network.

Shapes: B rows, K modalities, d width of one encoding, H width of the sum, D width of the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmcontrast.models.mlp import mlp


class SumFusion(nn.Module):
    """[u_1, ..., u_K] -> Linear - ReLU - ... - Linear, without any normalisation over the batch.

    Batch statistics would tell intact tuples from disturbed ones.

    Args:
        modalities: K names. width: d. hidden: hidden widths; [] = one linear layer. out: D.
    """

    def __init__(self, modalities: Sequence[str], width: int, hidden: Sequence[int], out: int) -> None:
        super().__init__()
        first, *rest = [*hidden, out]
        # modules of their own rather than slices of one weight: ZeRO 3 brings a weight in when its module is called
        layers = {m: nn.Linear(width, first, bias=k == 0) for k, m in enumerate(modalities)}
        self.first = nn.ModuleDict(layers)
        std = (2 / (len(modalities) * width + first)) ** 0.5  # Xavier-normal of the whole layer
        for layer in layers.values():
            nn.init.normal_(layer.weight, std=std)
        nn.init.zeros_(layers[modalities[0]].bias)
        self.rest = nn.Sequential(nn.ReLU(), mlp([first, *rest])) if rest else nn.Identity()

    def terms(self, encodings: Mapping[str, Tensor]) -> list[Tensor]:
        """K tensors (B, H) whose sum is the first layer's output; the first one carries the bias."""
        return [layer(encodings[m]) for m, layer in self.first.items()]

    def finish(self, sum_BH: Tensor) -> Tensor:
        """(B, D) from the first layer's output."""
        z_BD: Tensor = self.rest(sum_BH)
        return z_BD

    def forward(self, encodings: Mapping[str, Tensor]) -> Tensor:
        """(B, D) from K encodings (B, d)."""
        return self.finish(add(self.terms(encodings)))


def add(terms: Sequence[Tensor]) -> Tensor:
    """Sum of tensors of one shape."""
    return torch.stack(list(terms)).sum(0)
