"""Encoders: one observation of a modality -> its embedding.

Shapes: B batch, F features of a vector modality, D width of the embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from mmcontrast.config import CellConfig, Modality, Model
from mmcontrast.errors import ConfigError
from mmcontrast.models.conv import build_image_encoder
from mmcontrast.models.mlp import mlp
from mmcontrast.models.text import BiGRUEncoder


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


class FlatImageEncoder(nn.Module):
    """A convolutional encoder, its whole feature map through one linear layer: (B, C, H, W) -> (B, D).

    The map is not pooled: at 32 pixels it has a few places, and where a thing is in a drawing says much.
    """

    def __init__(self, modality: Modality, model: Model) -> None:
        super().__init__()
        self.conv = build_image_encoder(model.image, modality.shape)
        height, width = self.conv.grid
        self.out = mlp([self.conv.channels * height * width, model.width])

    def forward(self, x_BCHW: Tensor) -> Tensor:
        z_BD: Tensor = self.out(self.conv(x_BCHW).flatten(1))
        return z_BD


def text_encoder(modality: Modality, model: Model) -> nn.Module:
    """A bi-GRU over word pieces.

    Raises:
        ConfigError: model.text is not given.
    """
    if model.text is None:
        raise ConfigError("model.text: required for a text modality and not given")
    return BiGRUEncoder(model.text.vocabulary, model.text.embedding, model.text.hidden, model.width)


ENCODERS: dict[str, Callable[[Modality, Model], nn.Module]] = {
    "vector": VectorEncoder,
    "image": FlatImageEncoder,
    "text": text_encoder,
}


def build_encoders(cell: CellConfig, modalities: Iterable[str]) -> nn.ModuleDict:
    """An encoder for each of the named modalities, in that order.

    Raises:
        ConfigError: a modality's kind has no encoder, or its name cannot name a module.
    """
    out = nn.ModuleDict()
    for name in modalities:
        modality = cell.modalities[name]
        where = f"params/datasets/{cell.dataset}.yaml: modalities.{name}"
        if modality.kind not in ENCODERS:
            raise ConfigError(
                f"{where}: kind: there is no encoder for '{modality.kind}'; kinds with an encoder: "
                f"{', '.join(sorted(ENCODERS))}. Prepare the modality as one of these"
            )
        try:
            out[name] = ENCODERS[modality.kind](modality, cell.model)
        except KeyError as e:
            raise ConfigError(f"{where}: this name is not possible ({e.args[0]}); choose another") from None
    return out
