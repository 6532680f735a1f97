"""The inputs themselves, without a network: what a linear probe reads from them is what pretraining has to beat.

Shapes: b rows of this rank, F features, C x H x W image, T steps of d numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.data.inputs import unit_pixels
from mmcontrast.errors import ConfigError
from mmcontrast.methods.base import Batch, Method, refuse_training
from mmcontrast.methods.baselines.objectives import RawObjective
from mmcontrast.models.resampling import resampled


class Raw(Method):
    """No encoder and nothing to train: `embed` is the inputs side by side.

    A vector as it is, an image's pixels, a sequence resampled to `objective.steps` steps; a modality that a row lacks
    is zeros. It is scored by the same probe as every method.

    Raises:
        ConfigError: a stage with epochs, a modality with several observations, or a text, which has no numbers.
    """

    def __init__(self, cell: CellConfig) -> None:
        super().__init__(cell)
        where = f"params/methods/{cell.method}.yaml ({cell.name})"
        spec = RawObjective.model_validate(cell.objective)
        refuse_training(cell, where)
        of_kind: dict[str, Callable[[Tensor], Tensor]] = {
            "vector": lambda x: x,
            "image": lambda x: unit_pixels(x).flatten(1),
            "sequence": lambda x: resampled(x, spec.steps).flatten(1),
        }
        self.numbers: dict[str, Callable[[Tensor], Tensor]] = {}
        for name, modality in cell.modalities.items():
            if modality.kind not in of_kind or modality.multifold:
                found = "several observations" if modality.multifold else f"a {modality.kind}"
                raise ConfigError(
                    f"{where}: modality '{name}' of dataset '{cell.dataset}' is {found}, and raw inputs are one "
                    "vector, image or sequence per instance; leave this method out there"
                )
            self.numbers[name] = of_kind[modality.kind]
        # engines and optimizers want a weight; it is never trained
        self.one = nn.Parameter(torch.ones(1))

    def embed(self, batch: Batch) -> Tensor:
        return torch.cat([self.numbers[m](batch.inputs[m]) for m in self.modalities], dim=1) * self.one


METHOD = Raw
