"""Encoders: one observation of a modality -> its embedding, or what a fusion takes tokens of: a map, or steps; and a
slowly following copy of a network, kept in its owner's state and so in every checkpoint.

Shapes: B batch, F features of a vector modality, C x H x W image, T steps, W width of a step, D of the embedding.
"""

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import TypeVar

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig, Modality, Model
from mmcontrast.errors import ConfigError
from mmcontrast.models.conv import IMAGE_ENCODERS, ImageEncoder
from mmcontrast.models.heads import mlp

Network = TypeVar("Network", bound=nn.Module)


def frozen_copy(module: Network) -> Network:
    """A copy whose parameters are buffers: saved and moved with the rest, and seen by no optimizer."""
    out = copy.deepcopy(module)
    for part in out.modules():
        for name, parameter in list(part._parameters.items()):
            del part._parameters[name]
            part.register_buffer(name, None if parameter is None else parameter.detach().clone())
        if isinstance(part, nn.RNNBase):
            # torch's recurrent layers hold their weights in a second list, which must be the buffers too
            part._flat_weights = [getattr(part, name) for name in part._flat_weights_names]
    return out


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """teacher, a `frozen_copy` of student, <- decay * teacher + (1 - decay) * student; counters are copied."""
    theirs = student.state_dict()
    for name, mine in teacher.state_dict().items():
        if torch.is_floating_point(mine):
            mine.lerp_(theirs[name], 1 - decay)
        else:
            mine.copy_(theirs[name])


class VectorEncoder(nn.Module):
    """MLP for a vector modality: (B, F) -> (B, D), with no final activation, no dropout and no normalisation.

    As in M3CoL's released code for the omics sets, which builds a dropout layer that it never calls.
    """

    def __init__(self, modality: Modality, model: Model) -> None:
        super().__init__()
        self.layers = mlp([*modality.shape, *model.encoder_hidden, model.width])

    def forward(self, x_BF: Tensor) -> Tensor:
        z_BD: Tensor = self.layers(x_BF)
        return z_BD


def image_map(modality: Modality, model: Model) -> ImageEncoder:
    """The image encoder that `model.image` names, from `image_weights` where they are given: (B, C, H, W) -> map.

    Raises ConfigError: none is named, or the image is too small for it; DataError: the weights are not its own.
    """
    if model.image is None:
        raise ConfigError(f"model.image: not given, and there are images; give one of {', '.join(IMAGE_ENCODERS)}")
    encoder = IMAGE_ENCODERS[model.image](modality.shape)
    if model.image_weights is not None:
        import_module("mmcontrast.models.image_weights").load_image_weights(encoder, model.image_weights)
    _ = encoder.grid  # refuses an image that is too small, before any is seen
    return encoder


class ImageVector(nn.Module):
    """The mean of the feature map, or all of it, through a linear layer: (B, C, H, W) -> (B, D). Errors as `image_map`.

    All of it with `model.image_flat`, and for one of several drawings per instance: at 28 or 32 pixels the map has a
    few places, and where a stroke is says much, which a mean forgets.
    """

    def __init__(self, modality: Modality, model: Model) -> None:
        super().__init__()
        self.features = image_map(modality, model)
        self.flat, channels = modality.multifold or model.image_flat, self.features.channels
        places = math.prod(self.features.grid)
        self.project = mlp([channels * places, model.width]) if self.flat else nn.Linear(channels, model.width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        map_BChw = self.features(x_BCHW)
        z_BD: Tensor = self.project(map_BChw.flatten(1) if self.flat else map_BChw.mean(dim=(2, 3)))
        return z_BD


class StepEncoder(nn.Module):
    """Base of encoders that keep every step: (B, ...) -> (B, T, width), and (B, T) True where a row has no step.

    The latter is None where every row has all of them. A row without any step has zeros or is hidden as a whole.
    """

    width: int

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        raise NotImplementedError


def mean_step(tokens_BTW: Tensor, padding_BT: Tensor | None) -> Tensor:
    """(B, W) mean over the tokens that a row has; of none, zeros."""
    if padding_BT is None:
        return tokens_BTW.mean(1)
    seen_BT1 = ~padding_BT[:, :, None]
    return (tokens_BTW * seen_BT1).sum(1) / seen_BT1.sum(1).clamp(min=1)


def _by_name(module: str, name: str) -> Callable[[Modality, Model], nn.Module]:
    """An encoder that is imported when one is built, as what it is made of concerns only the cells that have one."""

    def make(modality: Modality, model: Model) -> nn.Module:
        encoder: nn.Module = getattr(import_module(f"mmcontrast.models.{module}"), name)(modality, model)
        return encoder

    return make


Makers = Mapping[str, Callable[[Modality, Model], nn.Module]]
# by kind of modality: what gives an embedding, and what CoMM's fusion makes tokens of
ENCODERS: Makers = {
    "vector": VectorEncoder,
    "image": ImageVector,
    "sequence": _by_name("sequence", "SequenceEncoder"),
    "text": _by_name("text", "BiGRUEncoder"),
}
TOKEN_ENCODERS: Makers = {
    "vector": VectorEncoder,
    "image": image_map,
    "sequence": _by_name("sequence", "sequence_steps"),
    "text": _by_name("text", "BiGRUSteps"),
}


def build_encoders(cell: CellConfig, modalities: Iterable[str], makers: Makers = ENCODERS) -> nn.ModuleDict:
    """An encoder for each of the named modalities, in that order. makers: kind of modality -> its encoder.

    Raises ConfigError: a modality's kind has no encoder, the model names none for it, or its name cannot name a module.
    """
    method = f"params/methods/{cell.method}.yaml ({cell.name})"
    kinds = {m.kind for m in cell.modalities.values()}
    if unused := sorted(set(cell.model.pretrained) - kinds - set(cell.modalities)):
        raise ConfigError(
            f"{method}: model.pretrained: dataset '{cell.dataset}' has no modality and no kind '{unused[0]}'; it has "
            f"{', '.join(f'{name} ({m.kind})' for name, m in cell.modalities.items())}"
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
            out[name] = _pretrained(name, modality, cell.model, makers) or makers[modality.kind](modality, cell.model)
        except ConfigError as e:
            raise ConfigError(f"{method}, modality '{name}': {e}") from None
        except KeyError as e:
            raise ConfigError(f"{where}: this name is not possible ({e.args[0]}); choose another") from None
    return out


def _pretrained(name: str, modality: Modality, model: Model, makers: Makers) -> nn.Module | None:
    """The encoder that `model.pretrained` gives for the modality, or for its kind; None = ours."""
    key = next((key for key in (name, modality.kind) if key in model.pretrained), None)
    if key is None:
        return None
    if modality.kind == "vector":
        raise ConfigError(f"model.pretrained.{key}: of vectors there are no pretrained encoders; remove it")
    found, spec, where = import_module("mmcontrast.models.pretrained"), model.pretrained[key], f"model.pretrained.{key}"
    steps: nn.Module = found.PretrainedTower(modality, spec, where)
    if makers is TOKEN_ENCODERS:
        return steps
    encoder: nn.Module = found.PretrainedEncoder(steps, model)
    return encoder
