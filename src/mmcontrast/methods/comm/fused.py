"""What CoMM and its supervised counterpart share: encoders, tokens, and one fused embedding of all modalities.

Shapes: b rows of this rank, d width of a modality's encoding, D width of the fusion, K embeddings (one a mask).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.errors import ConfigError, ContrastError
from mmcontrast.methods.base import Batch, Method
from mmcontrast.methods.comm.converters import build_converter
from mmcontrast.methods.comm.fusion import FusionTransformer, LinearFusion
from mmcontrast.methods.comm.loss import modality_masks
from mmcontrast.models.encoders import ENCODERS, TOKEN_ENCODERS, build_encoders

Masks = Sequence[Sequence[bool]]


class FusedMethod(Method):
    """Encoders, a converter to tokens a modality, and the fusion that `model.fusion` describes.

    A modality that an embedding does not see has its tokens removed (CoMM's released form; the paper draws a [MSK]
    token). The linear fusion, an ablation, has no converters: it fuses the encodings themselves. A row that lacks a
    modality never comes here: data with empty cells are refused when they are read.

    Raises:
        ContrastError: the cell has fewer than two modalities.
        ConfigError: no model.fusion, heads that do not divide the width, or a kind of modality without encoder.
    """

    def __init__(self, cell: CellConfig) -> None:
        super().__init__(cell)
        if len(self.modalities) < 2:
            raise ContrastError(f"fusion needs at least two modalities, and there is {self.modalities}")
        fusion = cell.model.fusion
        if fusion is None:
            raise ConfigError(
                f"params/methods/{cell.method}.yaml ({cell.name}): model.fusion: required by this method and not given"
            )
        linear = fusion.kind == "linear"
        self.encoders = build_encoders(cell, self.modalities, ENCODERS if linear else TOKEN_ENCODERS)
        self.converters = nn.ModuleDict()
        self.fusion: nn.Module
        if linear:
            self.fusion = LinearFusion([cell.model.width] * len(self.modalities), fusion.width)
        else:
            for m in self.modalities:
                kind = cell.modalities[m].kind
                self.converters[m] = build_converter(kind, self.encoders[m], cell.model.width, fusion.width)
            self.fusion = FusionTransformer(fusion.width, fusion.heads, fusion.layers)
        self.fused_width = fusion.width
        self.masks = modality_masks(len(self.modalities))

    def fuse(self, inputs: Mapping[str, Tensor], masks: Masks) -> list[Tensor]:
        """K tensors (b, D), one a mask; the encoders run once."""
        encoded = {m: encoder(inputs[m]) for m, encoder in self.encoders.items()}
        tokens = [self.converters[m](z_bd) if self.converters else z_bd for m, z_bd in encoded.items()]
        fused: list[Tensor] = self.fusion(tokens, masks)
        return fused

    def embed(self, batch: Batch) -> Tensor:
        return self.fuse(batch.inputs, self.masks[-1:])[0]
