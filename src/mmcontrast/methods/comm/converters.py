"""Latent converters: what an encoder gives -> tokens of the fusion's width.

Shapes: B batch, C channels, H x W a feature map, T tokens, F features, D width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcontrast.errors import ConfigError
from mmcontrast.models.conv import ImageEncoder


def sincos_2d(height: int, width: int, dim: int, temperature: float = 10000.0) -> Tensor:
    """(height * width, dim) fixed position code: [sin(w), cos(w), sin(h), cos(h)] of dim/4 frequencies each.

    The released code builds its grid with 'ij' order from (width, height), so on a square map the first half of the
    channels varies along the slow, row-major axis; kept, for it is a mere renaming of the axes.

    Raises:
        ConfigError: dim is no multiple of 4.
    """
    if dim % 4:
        raise ConfigError(f"a 2-D position code needs a width that is a multiple of 4, not {dim}")
    grid_w, grid_h = torch.meshgrid(torch.arange(width).double(), torch.arange(height).double(), indexing="ij")
    omega = temperature ** (-torch.arange(dim // 4).double() / (dim // 4))
    angle_w, angle_h = grid_w.reshape(-1, 1) * omega, grid_h.reshape(-1, 1) * omega
    return torch.cat([angle_w.sin(), angle_w.cos(), angle_h.sin(), angle_h.cos()], dim=1).float()


class PatchTokens(nn.Module):
    """A feature map (B, C, H, W) -> (B, H*W, D): 1x1 convolution plus the fixed position code of `grid`.

    A map of another size gets the code by bicubic interpolation, as in the released code.
    """

    def __init__(self, channels: int, dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.project = nn.Conv2d(channels, dim, kernel_size=1)
        self.register_buffer("position_TD", sincos_2d(*grid, dim), persistent=False)
        self.position_TD: Tensor

    def forward(self, map_BCHW: Tensor) -> Tensor:
        tokens_BTD = self.project(map_BCHW).flatten(2).transpose(1, 2)
        return tokens_BTD + self._position(map_BCHW.shape[2], map_BCHW.shape[3]).to(tokens_BTD.dtype)

    def _position(self, height: int, width: int) -> Tensor:
        if (height, width) == self.grid:
            return self.position_TD
        image = self.position_TD.T.reshape(1, -1, *self.grid)
        resized: Tensor = F.interpolate(image, (height, width), mode="bicubic", align_corners=False)
        return resized.flatten(2)[0].T


class FeatureTokens(nn.Module):
    """A vector (B, F) -> (B, F, D): token_j = x_j * W_j + b_j, one token a feature, W and b from N(0, 1)."""

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.weight_FD = nn.Parameter(torch.randn(features, dim))
        self.bias_FD = nn.Parameter(torch.randn(features, dim))

    def forward(self, x_BF: Tensor) -> Tensor:
        return x_BF[:, :, None] * self.weight_FD + self.bias_FD


class SingleToken(nn.Module):
    """An embedding (B, D) -> one token (B, 1, D).

    Raises:
        ConfigError: the encoder's width is not the fusion's.
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        if width != dim:
            raise ConfigError(
                f"a single token needs an encoder of the fusion's width {dim}, and this one gives {width}"
            )

    def forward(self, x_BD: Tensor) -> Tensor:
        return x_BD[:, None, :]


class SequenceTokens(nn.Module):
    """A sequence (B, T, D) as it is.

    Raises:
        ConfigError: the encoder's width is not the fusion's.
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        if width != dim:
            raise ConfigError(f"a sequence joins the fusion at its width {dim}, and this encoder gives {width}")

    def forward(self, x_BTD: Tensor) -> Tensor:
        return x_BTD


def _of_features(encoder: nn.Module, width: int, dim: int) -> nn.Module:
    return FeatureTokens(width, dim)


def _of_map(encoder: nn.Module, width: int, dim: int) -> nn.Module:
    if not isinstance(encoder, ImageEncoder):
        raise TypeError(f"tokens are made of an ImageEncoder's map, not of a {type(encoder).__name__}'s output")
    return PatchTokens(encoder.channels, dim, encoder.grid)


CONVERTERS: dict[str, Callable[[nn.Module, int, int], nn.Module]] = {"vector": _of_features, "image": _of_map}


def build_converter(kind: str, encoder: nn.Module, width: int, dim: int) -> nn.Module:
    """What makes tokens of the fusion's width `dim` from what the encoder of a modality of this kind gives.

    Args:
        kind: one that `encoders.TOKEN_ENCODERS` has. width: the encoder's, where it gives a vector.

    Raises:
        ConfigError: widths that do not fit.
    """
    return CONVERTERS[kind](encoder, width, dim)
