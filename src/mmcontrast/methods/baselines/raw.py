"""The inputs themselves, without a network: what a linear probe reads from them is what pretraining has to beat.

Shapes: b rows of this rank, F features, C x H x W image, T steps of d numbers, S steps that a sequence is resampled to.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.data.pixels import unit_pixels
from mmcontrast.errors import ConfigError
from mmcontrast.methods.base import Batch, Method
from mmcontrast.methods.baselines.objectives import RawObjective


def resampled(x_bTd: Tensor, steps: int) -> Tensor:
    """(b, S * d): each row's own steps at S equal distances from its first to its last, linear in between.

    Args:
        x_bTd: NaN in the steps that a row does not have, which come last. A row without any gives zeros.
        steps: S.
    """
    counts_b = (~x_bTd.isnan().any(dim=2)).sum(dim=1)
    x_bTd = x_bTd.nan_to_num()
    at_bS = torch.linspace(0, 1, steps, device=x_bTd.device) * (counts_b - 1).clamp(min=0)[:, None]
    below_bS = at_bS.floor().long()
    above_bS = torch.minimum(below_bS + 1, (counts_b - 1).clamp(min=0)[:, None])
    low, high = (x_bTd.gather(1, i_bS[:, :, None].expand(-1, -1, x_bTd.shape[2])) for i_bS in (below_bS, above_bS))
    return torch.lerp(low, high, (at_bS - below_bS)[:, :, None]).flatten(1)


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
        if cell.finetune is not None or cell.pretrain is None or cell.pretrain.epochs:
            raise ConfigError(f"{where}: nothing is trained here; give `pretrain: {{epochs: 0}}` and no `finetune`")
        of_kind: dict[str, Callable[[Tensor], Tensor]] = {
            "vector": lambda x: x,
            "image": lambda x: unit_pixels(x).flatten(1),
            "sequence": lambda x: resampled(x, spec.steps),
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
