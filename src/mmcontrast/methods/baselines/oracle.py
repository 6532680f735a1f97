"""Codes made of the truth, without a network: floor and ceiling of what a linear probe can read, measured.

Shapes: b rows of this rank, C classes of a factor.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.errors import ConfigError, nearest
from mmcontrast.methods.base import Batch, Method, refuse_training
from mmcontrast.methods.baselines.objectives import OracleObjective


class Oracle(Method):
    """`embed` is a one-hot code of each of `objective.factors`, side by side, then one of each of the products.

    A linear probe of the factors alone reads nothing that takes two of them at once: an additive code.

    Raises:
        ConfigError: a factor is no task of classes of this dataset, or a stage is to train.
    """

    reads_labels = True

    def __init__(self, cell: CellConfig) -> None:
        super().__init__(cell)
        where = f"params/methods/{cell.method}.yaml ({cell.name})"
        spec = OracleObjective.model_validate(cell.objective)
        refuse_training(cell, where)
        self.widths = {task or "main": of.width for task, of in cell.targets.items() if of.kind == "classes"}
        self.codes = [[factor] for factor in spec.factors] + spec.products
        for factor in (name for code in self.codes for name in code):
            if factor not in self.widths:
                raise ConfigError(
                    f"{where}: objective: dataset '{cell.dataset}' has no task of classes '{factor}'; "
                    f"{nearest(factor, self.widths)}"
                )
        # engines and optimizers want a weight; it is never trained
        self.one = nn.Parameter(torch.ones(1))

    def embed(self, batch: Batch) -> Tensor:
        labels = {"main": batch.labels, **batch.tasks}
        codes = []
        for code in self.codes:
            at, width = torch.zeros_like(batch.labels), 1
            for factor in code:
                at, width = at * self.widths[factor] + labels[factor], width * self.widths[factor]
            codes.append(F.one_hot(at, width).float())
        return torch.cat(codes, dim=1) * self.one


METHOD = Oracle
