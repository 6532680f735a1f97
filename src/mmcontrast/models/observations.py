"""Encoders of single observations, whose embeddings are compared as they are: a vector, a drawing, a text.

Shapes: B batch, C x H x W image, D width of the embedding.
"""

from __future__ import annotations

from importlib import import_module

from torch import Tensor, nn

from mmcontrast.config import Modality, Model
from mmcontrast.errors import ConfigError
from mmcontrast.models.conv import IMAGE_ENCODERS, build_image_encoder
from mmcontrast.models.encoders import Makers, PooledImageEncoder, VectorEncoder
from mmcontrast.models.mlp import mlp

# imported by name: what they are made of concerns only the cells that have texts, or a pretrained CLIP
CLIP, TEXT = "mmcontrast.models.clip", "mmcontrast.models.text"


class FlatImageEncoder(nn.Module):
    """A convolutional encoder, its whole feature map through one linear layer: (B, C, H, W) -> (B, D).

    The map is not pooled: at 32 pixels it has a few places, and where a thing is in a drawing says much.

    Raises:
        ConfigError: model.image is not given, or the image is too small for it.
    """

    def __init__(self, modality: Modality, model: Model) -> None:
        super().__init__()
        if model.image is None:
            raise ConfigError(f"model.image: not given, and there are images; give one of {', '.join(IMAGE_ENCODERS)}")
        self.conv = build_image_encoder(model.image, modality.shape)
        height, width = self.conv.grid
        self.out = mlp([self.conv.channels * height * width, model.width])

    def forward(self, x_BCHW: Tensor) -> Tensor:
        z_BD: Tensor = self.out(self.conv(x_BCHW).flatten(1))
        return z_BD


def image_encoder(modality: Modality, model: Model) -> nn.Module:
    """Of drawings the whole map; a modality with one image per instance has the encoder that all other methods have.

    Where `model.clip` is given, a pretrained CLIP's.

    Raises:
        ConfigError: neither model.image nor model.clip is given, or the image does not fit.
        DataError: the CLIP's files are not what they should be.
    """
    if model.clip is not None:
        clip: nn.Module = import_module(CLIP).CLIPImageEncoder(modality, model)
        return clip
    return (FlatImageEncoder if modality.multifold else PooledImageEncoder)(modality, model)


def text_encoder(modality: Modality, model: Model) -> nn.Module:
    """A bi-GRU over word pieces, or a pretrained CLIP's text encoder where `model.clip` is given.

    Raises:
        ConfigError: neither model.text nor model.clip is given.
        DataError: the CLIP's files are not what they should be.
    """
    if model.clip is not None:
        clip: nn.Module = import_module(CLIP).CLIPTextEncoder(modality, model)
        return clip
    if model.text is None:
        raise ConfigError("model.text: not given, and there are texts; give vocabulary, tokens, embedding and hidden")
    text = model.text
    encoder: nn.Module = import_module(TEXT).BiGRUEncoder(text.vocabulary, text.embedding, text.hidden, model.width)
    return encoder


OBSERVATION_ENCODERS: Makers = {"vector": VectorEncoder, "image": image_encoder, "text": text_encoder}
