"""Image encoders, randomly initialised: image -> feature map. None of them pools.

Shapes: B batch, C channels, H x W image, h x w feature map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcontrast.data.inputs import unit_pixels
from mmcontrast.errors import ConfigError, DataError, nearest
from mmcontrast.models.norm import GlobalBatchNorm2d


class ImageEncoder(nn.Module):
    """Base: (B, C, H, W) -> (B, channels, h, w), with `channels` and `grid` = (h, w) known before the first call.

    Images are float in [0, 1], or uint8, which becomes it; they are centred here, so that nothing outside need know.

    Attributes:
        normal: mean and spread of each channel that the weights are used to; None = of random weights.

    Raises:
        ConfigError: the image is too small for the layers.
        DataError: from `forward`, for an image of another shape.
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


class AlexNetFeatures(ImageEncoder):
    """AlexNet's convolutional part (Krizhevsky 2014, one tower): 3x224x224 -> 256x6x6, initialised as torch does.

    Its layers have the names that torchvision gives them, so that its weights can be loaded.
    """

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
    """He et al. 2016, 18 layers, without pooling and classifier: 3xHxW -> 512 x H/32 x W/32.

    Its layers have the names that torchvision gives them, so that its weights can be loaded.
    """

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


def build_image_encoder(name: str, shape: Sequence[int]) -> ImageEncoder:
    """An image encoder by name, for images of `shape` = (C, H, W).

    Raises:
        ConfigError: no encoder of this name, or the image is too small for it.
    """
    if name not in IMAGE_ENCODERS:
        raise ConfigError(f"no image encoder '{name}'; {nearest(name, IMAGE_ENCODERS)}")
    return IMAGE_ENCODERS[name](shape)
