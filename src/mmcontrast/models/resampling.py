"""Sequences of any length as so many steps.

Shapes: B batch, T steps of F features, S steps that they are resampled to.
"""

from __future__ import annotations

import torch
from torch import Tensor


def resampled(x_BTF: Tensor, steps: int) -> Tensor:
    """(B, S, F): each row's own steps at S equal distances from its first to its last, linear in between.

    Args:
        x_BTF: NaN in the steps that a row does not have, which come last. A row without any gives zeros.
        steps: S.
    """
    last_B1 = ((~x_BTF.isnan().any(dim=2)).sum(dim=1, keepdim=True) - 1).clamp(min=0)
    x_BTF = x_BTF.nan_to_num()
    at_BS = torch.linspace(0, 1, steps, device=x_BTF.device) * last_B1
    below_BS = at_BS.floor().long()
    above_BS = torch.minimum(below_BS + 1, last_B1)
    low, high = (x_BTF.gather(1, i_BS[:, :, None].expand(-1, -1, x_BTF.shape[2])) for i_BS in (below_BS, above_BS))
    return torch.lerp(low, high, (at_BS - below_BS)[:, :, None].to(x_BTF.dtype))
