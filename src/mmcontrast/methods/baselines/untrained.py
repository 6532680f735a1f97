"""Embeddings without a network: the inputs themselves, and codes made of the truth. Of this study, no paper's method.

What a linear probe reads from the first is what pretraining has to beat; the others measure floor and ceiling of what
it can read.

Shapes: b rows of this rank, F features, C classes of a factor, C x H x W image, T steps of d numbers.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.data.inputs import unit_pixels
from mmcontrast.errors import ConfigError, nearest
from mmcontrast.methods.base import Batch, Method
from mmcontrast.methods.baselines.objectives import OracleObjective, RawObjective
from mmcontrast.models.sequence import resampled


class Untrained(Method):
    """Base of those with nothing to train; ConfigError for a stage with epochs."""

    def __init__(self, cell: CellConfig) -> None:
        super().__init__(cell)
        where = self.where = f"params/methods/{cell.method}.yaml ({cell.name})"
        if cell.finetune is not None or cell.pretrain is None or cell.pretrain.epochs:
            raise ConfigError(f"{where}: nothing is trained here; give `pretrain: {{epochs: 0}}` and no `finetune`")
        # engines and optimizers want a weight; it is never trained
        self.one = nn.Parameter(torch.ones(1))


class Raw(Untrained):
    """No encoder and nothing to train: `embed` is the inputs side by side.

    A vector as it is, an image's pixels, a sequence resampled to `objective.steps` steps; a modality that a row lacks
    is zeros. It is scored by the same probe as every method.
    Raises ConfigError: as Untrained; a modality with several observations, or a text, which has no numbers.
    """

    def __init__(self, cell: CellConfig) -> None:
        super().__init__(cell)
        spec = RawObjective.model_validate(cell.objective)
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
                    f"{self.where}: modality '{name}' of dataset '{cell.dataset}' is {found}, and raw inputs are one "
                    "vector, image or sequence per instance; leave this method out there"
                )
            self.numbers[name] = of_kind[modality.kind]

    def embed(self, batch: Batch) -> Tensor:
        return torch.cat([self.numbers[m](batch.inputs[m]) for m in self.modalities], dim=1) * self.one


class Oracle(Untrained):
    """`embed` is a one-hot code of each of `objective.factors`, side by side, then one of each of the products.

    A linear probe of the factors alone reads nothing that takes two of them at once: an additive code.
    Raises ConfigError: a factor is no task of classes of this dataset, or a stage is to train.
    """

    reads_labels = True

    def __init__(self, cell: CellConfig) -> None:
        super().__init__(cell)
        spec = OracleObjective.model_validate(cell.objective)
        self.widths = {task or "main": of.width for task, of in cell.targets.items() if of.kind == "classes"}
        self.codes = [[factor] for factor in spec.factors] + spec.products
        for factor in (name for code in self.codes for name in code):
            if factor not in self.widths:
                raise ConfigError(
                    f"{self.where}: objective: dataset '{cell.dataset}' has no task of classes '{factor}'; "
                    f"{nearest(factor, self.widths)}"
                )

    def embed(self, batch: Batch) -> Tensor:
        labels = {"main": batch.labels, **batch.tasks}
        codes = []
        for code in self.codes:
            at, width = torch.zeros_like(batch.labels), 1
            for factor in code:
                at, width = at * self.widths[factor] + labels[factor], width * self.widths[factor]
            codes.append(F.one_hot(at, width).float())
        return torch.cat(codes, dim=1) * self.one


METHODS = {"raw": Raw, "oracle": Oracle}
