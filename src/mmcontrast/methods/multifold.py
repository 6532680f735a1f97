"""What the methods for multifold data share: an encoder per modality, rows of observations and the instance of each.

Shapes: b instances of this rank, P rows of a modality on this rank, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.config.objective import TemperatureSpec, Views
from mmcontrast.errors import ConfigError, ContrastError
from mmcontrast.losses.instances import instance_mean
from mmcontrast.losses.similarity import unit_rows
from mmcontrast.methods.base import Batch, Method, Progress
from mmcontrast.models.encoders import build_encoders
from mmcontrast.models.observations import OBSERVATION_ENCODERS
from mmcontrast.models.views import SINGLE, pool_views

Rows = dict[str, tuple[Tensor, Tensor]]


class Temperature(nn.Module):
    """tau > 0, fixed or learned as log(1 / tau), at least `smallest` (CLIP clamps its scale at 100)."""

    def __init__(self, spec: TemperatureSpec) -> None:
        super().__init__()
        # one axis, as ZeRO 3 takes no scalar apart
        log_scale = torch.tensor([-math.log(spec.start)])
        self.most = -math.log(spec.smallest)
        if spec.learned:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale, persistent=False)

    def forward(self) -> Tensor:
        return (-self.log_scale.clamp(max=self.most)).exp().squeeze()


class MultifoldMethod(Method):
    """Encoders, the rows they give, and the rows of all ranks.

    Where the batch has no ids each modality has one row per instance, so that a method is also one for paired data.

    Raises:
        ContrastError: the cell has fewer than two modalities.
        ConfigError: the cell has a `finetune` stage, for which there is no classifier.
    """

    def __init__(self, cell: CellConfig, views: Views) -> None:
        super().__init__(cell)
        if len(self.modalities) < 2:
            raise ContrastError(f"a contrast needs at least two modalities, and there is {self.modalities}")
        if cell.finetune is not None:
            raise ConfigError(
                f"params/methods/{cell.method}.yaml ({cell.name}): finetune: this method has no classifier; remove it"
            )
        self.encoders = build_encoders(cell, self.modalities, OBSERVATION_ENCODERS)
        self.groups = {
            m: views.pooled_groups if cell.modalities[m].kind == "image" and cell.modalities[m].multifold else SINGLE
            for m in self.modalities
        }

    def rows(self, batch: Batch, encoders: nn.ModuleDict | None = None) -> Rows:
        """modality -> unit rows and the instance of each, on this rank.

        Args:
            encoders: instead of the method's own, e.g. a momentum copy of them.
        """
        out = {}
        for m, encoder in (self.encoders if encoders is None else encoders).items():
            x = batch.inputs[m]
            ids = torch.arange(len(x), device=x.device) if batch.ids is None else batch.ids[m]
            z_PD, ids_P = pool_views(encoder(x), ids, self.groups[m])
            out[m] = unit_rows(z_PD.float() if z_PD.dtype == torch.bfloat16 else z_PD), ids_P
        return out

    def gathered(self, rows: Mapping[str, tuple[Tensor, Tensor]], batch: Batch, progress: Progress) -> Rows:
        """The rows of all ranks, with gradient."""
        out = {}
        for m, (z_PD, ids_P) in rows.items():
            z_PD = progress.gather(z_PD)
            # without ids a row's number on its own rank is all it has, and the ranks would share numbers
            ids_P = torch.arange(len(z_PD), device=z_PD.device) if batch.ids is None else progress.gather(ids_P)
            out[m] = z_PD, ids_P
        return out

    def observations(self, batch: Batch) -> Rows:
        return self.rows(batch)

    def embed(self, batch: Batch) -> Tensor:
        """(b, M * D): each modality's mean unit row, side by side; instances in the order of their ids."""
        means = []
        for z_PD, ids_P in self.rows(batch).values():
            unique, index_P = torch.unique(ids_P, return_inverse=True)
            means.append(instance_mean(z_PD, index_P, len(unique)))
        return torch.cat(means, dim=-1)
