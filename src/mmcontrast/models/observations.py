"""Encoders of single observations, whose embeddings are compared as they are: a vector, a drawing, a text.

Shapes: B batch, C x H x W image, D width of the embedding.
"""

from __future__ import annotations

from torch import Tensor, nn

from mmcontrast.config import Modality, Model
from mmcontrast.models.encoders import ENCODERS, Makers, PooledImageEncoder, image_map
from mmcontrast.models.mlp import mlp


class FlatImageEncoder(nn.Module):
    """A convolutional encoder, its whole feature map through one linear layer: (B, C, H, W) -> (B, D).

    The map is not pooled: at 32 pixels it has a few places, and where a thing is in a drawing says much.

    Raises:
        ConfigError: model.image is not given, or the image is too small for it.
    """

    def __init__(self, modality: Modality, model: Model) -> None:
        super().__init__()
        self.conv = image_map(modality, model)
        height, width = self.conv.grid
        self.out = mlp([self.conv.channels * height * width, model.width])

    def forward(self, x_BCHW: Tensor) -> Tensor:
        z_BD: Tensor = self.out(self.conv(x_BCHW).flatten(1))
        return z_BD


def image_encoder(modality: Modality, model: Model) -> nn.Module:
    """Of drawings the whole map; a modality with one image per instance has the encoder that all other methods have.

    Raises:
        ConfigError: model.image is not given, or the image does not fit.
    """
    return (FlatImageEncoder if modality.multifold else PooledImageEncoder)(modality, model)


OBSERVATION_ENCODERS: Makers = {**ENCODERS, "image": image_encoder}
