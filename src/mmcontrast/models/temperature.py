"""The temperature of a contrastive loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mmcontrast.config.objective import TemperatureSpec


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
