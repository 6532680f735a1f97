"""Batch normalisation by the statistics of the global batch, on any device.

torch's SyncBatchNorm needs a GPU. Here the sums are added up over the ranks with gradient, in the convention of the
engines: the gradient of a collective is summed over ranks, and parameter gradients are averaged.

Shapes: b rows of this rank, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.clone()
        dist.all_reduce(total)
        return total


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d for feature maps (b, C, h, w); in training over the rows of all ranks, which may be uneven.

    With one rank, and in evaluation, it IS nn.BatchNorm2d. Every rank must call it, in the same order.
    """

    def forward(self, x_bChw: Tensor) -> Tensor:
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(x_bChw)
        wide = x_bChw.to(torch.promote_types(x_bChw.dtype, torch.float32))
        count = wide.new_tensor([float(wide.numel() // wide.shape[1])])
        sums = _SumOverRanks.apply(torch.cat([wide.sum(dim=(0, 2, 3)), count]))
        mean_C, n = sums[:-1] / sums[-1], sums[-1].detach()
        centred = wide - mean_C[None, :, None, None]
        variance_C = _SumOverRanks.apply(centred.square().sum(dim=(0, 2, 3))) / n
        self._remember(mean_C.detach(), variance_C.detach() * n / (n - 1))
        scale_C = self.weight * (variance_C + self.eps).rsqrt()
        out = centred * scale_C[None, :, None, None] + self.bias[None, :, None, None]
        return out.to(x_bChw.dtype)

    @torch.no_grad()
    def _remember(self, mean_C: Tensor, variance_C: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean_C.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance_C.to(self.running_var.dtype), momentum)


@contextmanager
def running_statistics_kept(module: nn.Module) -> Iterator[None]:
    """Within it, batch norms of the module normalise as before and leave their running statistics as they are."""
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
