"""Encoders: one observation of a modality -> its embedding.

Shapes: B batch, F features of a vector modality, D width of the embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from torch import Tensor, nn

from mmcontrast.config import CellConfig, Modality, Model
from mmcontrast.errors import ConfigError
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


Makers = Mapping[str, Callable[[Modality, Model], nn.Module]]
ENCODERS: Makers = {"vector": VectorEncoder}


def build_encoders(cell: CellConfig, modalities: Iterable[str], makers: Makers = ENCODERS) -> nn.ModuleDict:
    """An encoder for each of the named modalities, in that order.

    Args:
        makers: kind of modality -> its encoder.

    Raises:
        ConfigError: a modality's kind has no encoder, the model names none for it, or its name cannot name a module.
    """
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
