"""From encodings to one fused embedding: converters to tokens, CoMM's transformer read at its CLS token, and the
linear fusion of its ablation (source: `comm.loss`); `FusedMethod` is what CoMM and its supervised counterpart share.

A modality that is not to be seen is left out by removing its tokens (the released form; the paper draws a [MSK] token).

There is one layer, of which only the CLS position is read, so that its query is a constant, and keys and values need
not be formed either: q.(K y) = (K^T q).y, and sum_t a_t (V y_t) = V (sum_t a_t y_t), so that the layer costs T*D*heads
instead of T*D^2, and all masks share this work. Equal to the plain layer to rounding.

Shapes: B batch, T tokens of all modalities, t tokens kept, D width, H heads, E = D / H, M modalities; F features of a
vector, C channels and H x W of a feature map, where tokens are made.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.errors import ConfigError, ContrastError
from mmcontrast.methods.base import EVERYTHING, Batch, Method, Presence
from mmcontrast.models.conv import ImageEncoder
from mmcontrast.models.encoders import ENCODERS, TOKEN_ENCODERS, StepEncoder, build_encoders, mean_step

Masks = Sequence[Sequence[bool]]


class FusionLayer(nn.Module):
    """x + MHA(LN(x)), then x + W2 QuickGELU(W1 LN(x)), QuickGELU(u) = u * sigmoid(1.702 u); hidden width 4 D.

    Of x the CLS position is given, and the whole of it after the first norm.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        into_residual = dim**-0.5 * 2**-0.5
        nn.init.normal_(self.qkv.weight, std=dim**-0.5)
        nn.init.normal_(self.out.weight, std=into_residual)
        nn.init.normal_(self.up.weight, std=(2 * dim) ** -0.5)
        nn.init.normal_(self.down.weight, std=into_residual)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def read_cls(
        self,
        cls_BD: Tensor,
        y_BtD: Tensor,
        hidden_Bt: Tensor | None,
        kept_ZBt: Tensor | None = None,
        mask_D: Tensor | None = None,
    ) -> Tensor:
        """(B, D): the CLS position. y_BtD: normalised tokens, CLS too. hidden_Bt: True = not to be attended to.

        With `kept_ZBt`, (Z, B, D): of Z draws in which tokens that are False are `mask_D`, normalised too.
        """
        dim = cls_BD.shape[-1]
        wq, wk, wv = self.qkv.weight.chunk(3)
        bq, _, bv = self.qkv.bias.chunk(3)  # a bias of the keys moves all scores of a head alike
        q_BHE = F.linear(self.norm1(cls_BD), wq, bq).unflatten(-1, (self.heads, -1))
        lens_BHD = torch.einsum("bhe,hed->bhd", q_BHE, wk.view(self.heads, -1, dim)) / math.sqrt(dim // self.heads)
        scores_BHt = torch.matmul(lens_BHD, y_BtD.transpose(1, 2))
        if kept_ZBt is not None and mask_D is not None:
            scores_BHt = torch.where(kept_ZBt[:, :, None], scores_BHt, (lens_BHD @ mask_D)[:, :, None])
        if hidden_Bt is not None:
            scores_BHt = scores_BHt.masked_fill(hidden_Bt[:, None, :], -torch.inf)
        weights_BHt = scores_BHt.softmax(dim=-1)
        if kept_ZBt is not None and mask_D is not None:
            weights_BHt = weights_BHt.masked_fill(~kept_ZBt[:, :, None], 0)
            seen_BHD = torch.einsum("zbht,btd->zbhd", weights_BHt, y_BtD)
            seen_BHD = seen_BHD + (1 - weights_BHt.sum(dim=-1, keepdim=True)) * mask_D
        else:
            seen_BHD = torch.matmul(weights_BHt, y_BtD)
        v_BD = torch.einsum("...hd,hed->...he", seen_BHD, wv.view(self.heads, -1, dim)).flatten(-2) + bv
        x_BD: Tensor = cls_BD + self.out(v_BD)
        wide = self.up(self.norm2(x_BD))
        return x_BD + self.down(wide * torch.sigmoid(1.702 * wide))


class FusionTransformer(nn.Module):
    """CLS + tokens of the kept modalities -> (B, D), the CLS after a last LayerNorm.

    CLS starts from N(0, 1). There is no modality code and no position code here; a patch converter brings its own.
    Raises ConfigError: heads do not divide dim.
    """

    def __init__(self, dim: int, heads: int = 8) -> None:
        super().__init__()
        if dim % heads:
            raise ConfigError(f"fusion: {heads} heads must divide the width {dim}")
        self.cls_1D = nn.Parameter(torch.randn(1, dim))
        self.layer = FusionLayer(dim, heads)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, tokens: Sequence[Tensor], masks: Masks | None = None, padding: Sequence[Tensor | None] | None = None
    ) -> list[Tensor]:
        """One (B, D) embedding for each mask, which says what modalities it sees; None = one that sees all.

        tokens: (B, T_m, D) for each modality. padding: for each None or (B, T_m), True where there is no token, all of
        it where a row lacks it.
        """
        masks = [[True] * len(tokens)] if masks is None else masks
        padding = [None] * len(tokens) if padding is None else padding
        normed = [self.layer.norm1(x) for x in (self.cls_1D.expand(len(tokens[0]), 1, -1), *tokens)]
        out = []
        for mask in masks:
            y_BtD = torch.cat([normed[0], *[y for y, keep in zip(normed[1:], mask, strict=True) if keep]], dim=1)
            cls_BD = self.cls_1D.expand(len(y_BtD), -1)
            out.append(self.norm(self.layer.read_cls(cls_BD, y_BtD, _hidden(tokens, mask, padding))))
        return out

    def masked(
        self, tokens: Sequence[Tensor], kept: Sequence[Tensor], mask_D: Tensor, padding: Sequence[Tensor | None]
    ) -> list[Tensor]:
        """Z embeddings (B, D) of all modalities, in which tokens that are not kept are `mask_D`.

        tokens, padding: as in `forward`. kept: (Z, B, T_m) bool for each modality.
        """
        layer, n = self.layer, len(tokens[0])
        y_BtD = torch.cat([layer.norm1(x) for x in (self.cls_1D.expand(n, 1, -1), *tokens)], dim=1)
        kept_ZBt = torch.cat([torch.ones_like(kept[0][:, :, :1]), *kept], dim=2)
        hidden_Bt = _hidden(tokens, [True] * len(tokens), padding)
        z_ZBD = layer.read_cls(self.cls_1D.expand(n, -1), y_BtD, hidden_Bt, kept_ZBt, layer.norm1(mask_D))
        return list(self.norm(z_ZBD))


def _hidden(tokens: Sequence[Tensor], mask: Sequence[bool], padding: Sequence[Tensor | None]) -> Tensor | None:
    """(B, t) for CLS and the kept modalities, True = not to be attended to; None where nothing is padded."""
    kept = [(x, pad) for x, pad, keep in zip(tokens, padding, mask, strict=True) if keep]
    if all(pad is None for _, pad in kept):
        return None
    device = kept[0][0].device
    parts = [torch.zeros(x.shape[:2], dtype=torch.bool, device=device) if pad is None else pad for x, pad in kept]
    cls_B1 = torch.zeros(len(kept[0][0]), 1, dtype=torch.bool, device=device)
    return torch.cat([cls_B1, *parts], dim=1)


class LinearFusion(nn.Module):
    """The ablation of CoMM's table 4: pooled vectors, a linear map for each modality alone and one for all together.

    widths: of each modality's pooled vector. dim: width D of the result.
    """

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        super().__init__()
        self.alone = nn.ModuleList([nn.Linear(w, dim) for w in widths])
        self.together = nn.Linear(sum(widths), dim)

    def forward(self, pooled: Sequence[Tensor], masks: Masks, padding: object = None) -> list[Tensor]:
        """One (B, D) embedding for each mask; a mask keeps one modality or all of them: there is no map for others."""
        out = []
        for mask in masks:
            i = list(mask).index(True)
            out.append(self.together(torch.cat(list(pooled), dim=1)) if all(mask) else self.alone[i](pooled[i]))
        return out


def sincos_2d(height: int, width: int, dim: int, temperature: float = 10000.0) -> Tensor:
    """(height * width, dim) fixed position code: [sin(w), cos(w), sin(h), cos(h)] of dim/4 frequencies each.

    The released code takes (width, height) in 'ij' order, so that the first half of the channels varies along the slow
    axis of a square map; kept, for it is a mere renaming of the axes. Raises ConfigError: dim is no multiple of 4.
    """
    if dim % 4:
        raise ConfigError(f"a 2-D position code needs a width that is a multiple of 4, not {dim}")
    grid_w, grid_h = torch.meshgrid(torch.arange(width).double(), torch.arange(height).double(), indexing="ij")
    omega = temperature ** (-torch.arange(dim // 4).double() / (dim // 4))
    angle_w, angle_h = grid_w.reshape(-1, 1) * omega, grid_h.reshape(-1, 1) * omega
    return torch.cat([angle_w.sin(), angle_w.cos(), angle_h.sin(), angle_h.cos()], dim=1).float()


class PatchTokens(nn.Module):
    """A feature map (B, C, H, W) -> (B, H*W, D): 1x1 convolution plus position code; ConfigError as `sincos_2d`."""

    def __init__(self, channels: int, dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, dim, kernel_size=1)
        self.register_buffer("position_TD", sincos_2d(*grid, dim), persistent=False)
        self.position_TD: Tensor

    def forward(self, map_BCHW: Tensor) -> Tensor:
        tokens_BTD = self.project(map_BCHW).flatten(2).transpose(1, 2)
        return tokens_BTD + self.position_TD.to(tokens_BTD.dtype)


class FeatureTokens(nn.Module):
    """A vector (B, F) -> (B, F, D): token_j = x_j * W_j + b_j, one token a feature, W and b from N(0, 1)."""

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.weight_FD = nn.Parameter(torch.randn(features, dim))
        self.bias_FD = nn.Parameter(torch.randn(features, dim))

    def forward(self, x_BF: Tensor) -> Tensor:
        return x_BF[:, :, None] * self.weight_FD + self.bias_FD


def build_converter(encoder: nn.Module, width: int, dim: int) -> nn.Module:
    """What makes tokens of the fusion's width `dim` from what an encoder of `encoders.TOKEN_ENCODERS` gives.

    Steps of a sequence or a text are tokens as they are, as in CoMM, or by a linear layer where their width is another.
    width: the encoder's, where it gives a vector. Raises ConfigError for a map where `dim` is no multiple of 4.
    """
    if isinstance(encoder, ImageEncoder):
        return PatchTokens(encoder.channels, dim, encoder.grid)
    if isinstance(encoder, StepEncoder):
        return nn.Identity() if encoder.width == dim else nn.Linear(encoder.width, dim)
    return FeatureTokens(width, dim)


def pooled(encoded: Any) -> Tensor:
    """(b, F) of a vector (b, F), a feature map (b, F, h, w), or steps (b, T, F) and padding (b, T); 0 without steps."""
    values, padding_bT = encoded if isinstance(encoded, tuple) else (encoded, None)
    if values.ndim == 3:
        return mean_step(values, padding_bT)
    mean: Tensor = values.mean(dim=(2, 3)) if values.ndim == 4 else values
    return mean


def modality_masks(n: int) -> list[list[bool]]:
    """Which modalities are kept for each term: every one alone, then all of them."""
    return [[i == j for j in range(n)] for i in range(n)] + [[True] * n]


class FusedMethod(Method):
    """Encoders, a converter to tokens per modality, and the fusion that `model.fusion` describes.

    A modality that a row lacks has its tokens removed, as one that an embedding does not see. The linear fusion, an
    ablation, has no converters: it fuses the encodings themselves, zeros where a row lacks a modality.
    Raises ContrastError: the cell has fewer than two modalities; ConfigError: no model.fusion, heads that do not divide
    the width, or a kind of modality without encoder.
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
                self.converters[m] = build_converter(self.encoders[m], cell.model.width, fusion.width)
            self.fusion = FusionTransformer(fusion.width, fusion.heads)
        self.fused_width = fusion.width
        self.masks = modality_masks(len(self.modalities))

    def fuse(self, inputs: Mapping[str, Tensor], masks: Masks, presence: Presence = EVERYTHING) -> list[Tensor]:
        """K tensors (b, D), one per mask; the encoders run once."""
        encoded = presence.encode(self.encoders, inputs)
        tokens, padding = self.tokens(encoded, presence) if self.converters else (list(encoded.values()), [])
        fused: list[Tensor] = self.fusion(tokens, masks, padding)
        return fused

    def tokens(self, encoded: Mapping[str, Any], presence: Presence) -> tuple[list[Tensor], list[Tensor | None]]:
        """(b, T, D) of each modality, and (b, T) True where a row has no token; None where every row has all."""
        tokens, padding = [], []
        for m, z in encoded.items():
            values, padding_bT = z if isinstance(z, tuple) else (z, None)
            tokens.append(self.converters[m](values))
            if padding_bT is None and m in presence.local:
                padding_bT = ~presence.local[m][:, None].expand(tokens[-1].shape[:2])
            padding.append(padding_bT)
        return tokens, padding

    def embed(self, batch: Batch) -> Tensor:
        return self.fuse(batch.inputs, self.masks[-1:], Presence.of(batch))[0]

    def embeddings(self, batch: Batch) -> dict[str, Tensor]:
        """(b, width) by name: without labels, also what the encoders give, and what is left without each modality.

        Of the latter the linear fusion has nothing: there is no map for some of the modalities.
        """
        own = {"": self.embed(batch)}
        if self.cell.pretrain is None:
            return own
        others = {f"without_{m}": [other != m for other in self.modalities] for m in self.modalities}
        lacking = self.fuse(batch.inputs, list(others.values()), Presence.of(batch)) if self.converters else []
        return own | {"encoders": self.encodings(batch), **dict(zip(others, lacking, strict=False))}

    def encodings(self, batch: Batch) -> Tensor:
        """(b, sum of widths): outputs of the encoders side by side, the mean of a map's places and of a row's steps."""
        presence = Presence.of(batch)
        encoded = presence.encode(self.encoders, batch.inputs)
        return torch.cat([presence.blank(m, pooled(z)) for m, z in encoded.items()], dim=-1)
