"""Sequence encoders: (B, T, F) -> (B, T, D), every step kept.

Shapes: B batch, T steps, F features of a step, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmcontrast.errors import ConfigError, nearest


class GRUEncoder(nn.Module):
    """One GRU layer, its output at every step (CoMM on MIMIC). Padding comes last in a row, so no step sees it."""

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.gru = nn.GRU(features, dim, batch_first=True)

    def forward(self, x_BTF: Tensor, padding_BT: Tensor | None = None) -> Tensor:
        out_BTD: Tensor = self.gru(x_BTF)[0]
        return out_BTD


class SequenceTransformer(nn.Module):
    """Linear map of each step without bias, then a pre-norm transformer without position code (CoMM on MOSI and kin).

    Released values: 5 layers, 5 heads, hidden 2048, dropout 0.1, D = 40. The released code gives it no padding mask, so
    that there a row's features depend on the longest row beside it; here padded steps are not attended to.

    Raises:
        ConfigError: heads does not divide dim.
    """

    def __init__(
        self, features: int, dim: int, layers: int = 5, heads: int = 5, hidden: int = 2048, dropout: float = 0.1
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ConfigError(f"sequence transformer: {heads} heads must divide the width {dim}")
        self.project = nn.Conv1d(features, dim, kernel_size=1, bias=False)
        layer = nn.TransformerEncoderLayer(dim, heads, hidden, dropout, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, x_BTF: Tensor, padding_BT: Tensor | None = None) -> Tensor:
        """padding_BT: True where a row has no step. A row without any step gives zeros."""
        steps_BTD = self.project(x_BTF.transpose(1, 2)).transpose(1, 2)
        if padding_BT is None:
            out_BTD: Tensor = self.layers(steps_BTD)
            return out_BTD
        # attention over nothing is undefined: let an empty row see its own zeros, and blank it after
        empty_B1 = padding_BT.all(dim=1, keepdim=True)
        out_BTD = self.layers(steps_BTD, src_key_padding_mask=padding_BT & ~empty_B1)
        return torch.where(padding_BT[:, :, None], torch.zeros_like(out_BTD), out_BTD)


SEQUENCE_ENCODERS: dict[str, type[nn.Module]] = {"gru": GRUEncoder, "transformer": SequenceTransformer}


def build_sequence_encoder(name: str, features: int, dim: int) -> nn.Module:
    """A sequence encoder by name.

    Raises:
        ConfigError: no encoder of this name.
    """
    if name not in SEQUENCE_ENCODERS:
        raise ConfigError(f"no sequence encoder '{name}'; {nearest(name, SEQUENCE_ENCODERS)}")
    return SEQUENCE_ENCODERS[name](features, dim)
