"""Image encoders, randomly initialised: image -> feature map, none of them pools; their batch normalisation.

Statistics are of the global batch, on any device: torch's SyncBatchNorm needs a GPU. Sums are added up over the ranks
with gradient, in the convention of the engines.

Shapes: B batch, b rows of this rank, C channels, H x W image, h x w feature map.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from mmcontrast.data.inputs import unit_pixels
from mmcontrast.errors import ConfigError, DataError


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


class ImageEncoder(nn.Module):
    """Base: (B, C, H, W) -> (B, channels, h, w), with `channels` and `grid` = (h, w) known before the first call.

    Images are float in [0, 1], or uint8, which becomes it; they are centred here, so that nothing outside need know: by
    `normal`, the mean and spread of each channel that the weights are used to; None = of random weights.
    Raises ConfigError: from `grid`, for an image too small; DataError: from `forward`, for an image of another shape.
    """

    channels: int
    layers: nn.Sequential
    normal: tuple[Sequence[float], Sequence[float]] | None = None

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def body(self, x_BCHW: Tensor) -> Tensor:
        out: Tensor = self.layers(x_BCHW)
        return out

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if tuple(x_BCHW.shape[1:]) != self.shape:
            raise DataError(
                f"an image of shape {tuple(x_BCHW.shape[1:])} came to an encoder for {self.shape}; the dataset's "
                "file in params/datasets gives one shape for all images: prepare the data again"
            )
        x_BCHW = unit_pixels(x_BCHW)
        # the weights of a momentum copy are buffers
        weight = next(w for w in (*self.parameters(), *self.buffers()) if torch.is_floating_point(w))
        if self.normal is None:
            # close to the usual mean and spread of photographs, the same for every channel
            return self.body(((x_BCHW - 0.5) / 0.25).to(weight.dtype))
        mean, spread = (x_BCHW.new_tensor(values)[:, None, None] for values in self.normal)
        return self.body(((x_BCHW - mean) / spread).to(weight.dtype))

    @property
    def grid(self) -> tuple[int, int]:
        was_training = self.training
        self.eval()
        try:
            with torch.no_grad():
                return tuple(self.body(torch.zeros(1, *self.shape)).shape[2:])  # type: ignore[return-value]
        except RuntimeError as e:
            raise ConfigError(
                f"{type(self).__name__}: an image of shape {self.shape} is too small for it ({e})"
            ) from None
        finally:
            self.train(was_training)


class SmallConv(ImageEncoder):
    """For images of about 32 pixels: 5x5 s2 (16), 3x3 s2 (32), 3x3 s2 (64), 3x3 s1 (64), each with BN + ReLU."""

    channels = 64

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(shape)
        plan = [(shape[0], 16, 5, 2), (16, 32, 3, 2), (32, 64, 3, 2), (64, 64, 3, 1)]
        layers: list[nn.Module] = []
        for fan_in, fan_out, kernel, stride in plan:
            conv = nn.Conv2d(fan_in, fan_out, kernel, stride, kernel // 2, bias=False)
            layers += [conv, GlobalBatchNorm2d(fan_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def body(self, x_BCHW: Tensor) -> Tensor:
        # with channels as the last, fastest index the same is computed in less time on a CPU
        inner = self.layers[0](x_BCHW).contiguous(memory_format=torch.channels_last)
        out: Tensor = self.layers[1:](inner)
        return out


class AlexNetFeatures(ImageEncoder):
    """AlexNet's convolutional part (Krizhevsky 2014, one tower): 3x224x224 -> 256x6x6; names are torchvision's."""

    channels = 256

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(shape)
        layers: list[nn.Module] = []
        plan = [(shape[0], 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1)]
        for i, convolution in enumerate([*plan, (256, 256, 3, 1, 1)]):
            layers += [nn.Conv2d(*convolution), nn.ReLU()]
            if i in (0, 1, 4):
                layers.append(nn.MaxPool2d(3, 2))
        self.features = nn.Sequential(*layers)

    def body(self, x_BCHW: Tensor) -> Tensor:
        out: Tensor = self.features(x_BCHW)
        return out


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with BN around a shortcut; the shortcut is a 1x1 convolution where the shape changes."""

    def __init__(self, fan_in: int, fan_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(fan_out, fan_out, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = GlobalBatchNorm2d(fan_out), GlobalBatchNorm2d(fan_out)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or fan_in != fan_out:
            conv = nn.Conv2d(fan_in, fan_out, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, GlobalBatchNorm2d(fan_out))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x_BCHW)))))
        return F.relu(out + self.downsample(x_BCHW))


class ResNet18(ImageEncoder):
    """He et al. 2016, 18 layers, without pooling and classifier: 3xHxW -> 512xH/32xW/32; names are torchvision's."""

    channels = 512

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(shape)
        self.conv1 = nn.Conv2d(shape[0], 64, 7, 2, 3, bias=False)
        self.bn1 = GlobalBatchNorm2d(64)
        for i, (a, b, stride) in enumerate([(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)], 1):
            self.add_module(f"layer{i}", nn.Sequential(ResidualBlock(a, b, stride), ResidualBlock(b, b, 1)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def body(self, x_BCHW: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x_BCHW))), 3, 2, 1)
        for i in range(1, 5):
            x = self.get_submodule(f"layer{i}")(x)
        return x


IMAGE_ENCODERS: dict[str, type[ImageEncoder]] = {
    "small_conv": SmallConv,
    "alexnet": AlexNetFeatures,
    "resnet18": ResNet18,
}
