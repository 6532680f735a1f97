"""Modalities side by side as ONE input: images channel by channel, vectors feature by feature.

Shapes: b rows, C channels or features of a modality, S the sum of all C, H x W image.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from mmcontrast.config import CellConfig, Modality
from mmcontrast.errors import ConfigError

# what an encoder takes for zero, by kind of modality: image encoders centre pixels of [0, 1] at one half
ABSENT = {"vector": 0.0, "image": 0.5}


def joint_modality(cell: CellConfig) -> Modality:
    """The modality that all those of the cell's dataset are together: vector [S] or image [S, H, W].

    Raises:
        ConfigError: they are not all vectors, nor all images of one height and width.
    """
    kinds = {spec.kind for spec in cell.modalities.values()}
    sizes = {tuple(spec.shape[1:]) for spec in cell.modalities.values()}
    if len(kinds) > 1 or len(sizes) > 1 or not kinds <= set(ABSENT):
        found = ", ".join(f"{name} {spec.kind} {spec.shape}" for name, spec in cell.modalities.items())
        raise ConfigError(
            f"params/methods/{cell.method}.yaml ({cell.name}): objective.fusion: early puts modalities side by side, "
            "which takes vectors alone, or images alone, all of one height and width; params/datasets/"
            f"{cell.dataset}.yaml: modalities says {found}. Use fusion: late, or prepare images of one size"
        )
    channels = sum(spec.shape[0] for spec in cell.modalities.values())
    return Modality(kind=kinds.pop(), shape=[channels, *sizes.pop()])


def present_only(inputs: Mapping[str, Tensor], kept: Collection[str]) -> dict[str, Tensor]:
    """modality -> (b, C, ...) float, in the order of the inputs; what is not kept is zero to the encoder.

    Zero is 0 in a vector and mid-grey in an image, whose pixels the encoder centres.
    """
    out = {}
    for name, x in inputs.items():
        if not torch.is_floating_point(x):
            x = x.float() / 255
        out[name] = x if name in kept else torch.full_like(x, ABSENT["image" if x.ndim == 4 else "vector"])
    return out


def side_by_side(inputs: Mapping[str, Tensor]) -> Tensor:
    """(b, S, ...) of modalities (b, C, ...)."""
    return torch.cat(list(inputs.values()), dim=1)
