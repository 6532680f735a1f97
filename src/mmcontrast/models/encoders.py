"""Encoders: one observation of a modality -> its embedding, or the feature map that a fusion takes tokens of.

Shapes: B batch, F features of a vector modality, C x H x W image, D width of the embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from torch import Tensor, nn

from mmcontrast.config import CellConfig, Modality, Model
from mmcontrast.errors import ConfigError
from mmcontrast.models.conv import IMAGE_ENCODERS, ImageEncoder, build_image_encoder
from mmcontrast.models.mlp import mlp


class VectorEncoder(nn.Module):
    """MLP for a vector modality: (B, F) -> (B, D), with no final activation, no dropout and no normalisation.

    Source: M3CoL's released code for the omics sets, Linear(F, h) - ReLU - Linear(h, h). It also builds a dropout layer
    of rate 0.5 that it never calls; there is none here.
    """

    def __init__(self, modality: Modality, model: Model) -> None:
        super().__init__()
        self.layers = mlp([*modality.shape, *model.encoder_hidden, model.width])

    def forward(self, x_BF: Tensor) -> Tensor:
        z_BD: Tensor = self.layers(x_BF)
        return z_BD


def image_map(modality: Modality, model: Model) -> ImageEncoder:
    """The image encoder that `model.image` names: (B, C, H, W) -> feature map.

    Raises:
        ConfigError: none is named, or the image is too small for it.
    """
    if model.image is None:
        raise ConfigError(f"model.image: not given, and there are images; give one of {', '.join(IMAGE_ENCODERS)}")
    encoder = build_image_encoder(model.image, modality.shape)
    _ = encoder.grid  # refuses an image that is too small, before any is seen
    return encoder


class PooledImageEncoder(nn.Module):
    """Mean over the feature map, then a linear layer: (B, C, H, W) -> (B, D)."""

    def __init__(self, modality: Modality, model: Model) -> None:
        super().__init__()
        self.features = image_map(modality, model)
        self.project = nn.Linear(self.features.channels, model.width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        z_BD: Tensor = self.project(self.features(x_BCHW).mean(dim=(2, 3)))
        return z_BD


Makers = Mapping[str, Callable[[Modality, Model], nn.Module]]
# by kind of modality: what gives an embedding, and what CoMM's fusion makes tokens of
ENCODERS: Makers = {"vector": VectorEncoder, "image": PooledImageEncoder}
TOKEN_ENCODERS: Makers = {"vector": VectorEncoder, "image": image_map}


def build_encoders(cell: CellConfig, modalities: Iterable[str], makers: Makers = ENCODERS) -> nn.ModuleDict:
    """An encoder for each of the named modalities, in that order.

    Args:
        makers: kind of modality -> its encoder.

    Raises:
        ConfigError: a modality's kind has no encoder, the model names none for it, or its name cannot name a module.
    """
    modalities = list(modalities)
    if cell.model.clip is not None and not {cell.modalities[m].kind for m in modalities} & {"image", "text"}:
        raise ConfigError(
            f"params/methods/{cell.method}.yaml ({cell.name}): model.clip: encodes images and texts, and dataset "
            f"'{cell.dataset}' has none; remove it"
        )
    out = nn.ModuleDict()
    for name in modalities:
        modality = cell.modalities[name]
        where = f"params/datasets/{cell.dataset}.yaml: modalities.{name}"
        if modality.kind not in makers:
            raise ConfigError(
                f"{where}: kind: there is no encoder for '{modality.kind}'; kinds with an encoder: "
                f"{', '.join(sorted(makers))}. Prepare the modality as one of these"
            )
        try:
            out[name] = makers[modality.kind](modality, cell.model)
        except ConfigError as e:
            raise ConfigError(f"params/methods/{cell.method}.yaml ({cell.name}), modality '{name}': {e}") from None
        except KeyError as e:
            raise ConfigError(f"{where}: this name is not possible ({e.args[0]}); choose another") from None
    return out
