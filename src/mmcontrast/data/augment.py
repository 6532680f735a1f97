"""Augmentations of a batch of one modality, on the device the batch is on, from an explicit generator.

A map is (b, 3, 3): where in the input a point of the output is read, in coordinates from -1 to 1. Images are float in
[0, 1] and stay in it wherever a factor is applied. b rows of this rank, B of the global batch, F features, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.config import augmentations as spec
from mmcontrast.data.inputs import unit_pixels
from mmcontrast.errors import DataError

# ITU-R 601 luma, the grey of common image libraries
LUMA = (0.299, 0.587, 0.114)
RANKS = {"image": 4, "vector": 2, "sequence": 3, "text": 2}


def _map(rows: list[list[Tensor]]) -> Tensor:
    """(b, 3, 3) from two rows of (b, 1) entries."""
    zero = torch.zeros_like(rows[0][0])
    bottom = [zero, zero, zero + 1]
    return torch.stack([torch.cat(row, dim=1) for row in (*rows, bottom)], dim=1)


def crop_map(given: spec.Crop, draws: Draws, aspect: float) -> Tensor:
    """Area from U(scale), ratio log-uniform, then a place where it fits; a longer side is cut to the image's."""
    area, log_ratio = draws.between(*given.scale), draws.between(*(math.log(r) for r in given.ratio))
    width = (area * log_ratio.exp() / aspect).sqrt().clamp(max=1)
    height = (area / log_ratio.exp() * aspect).sqrt().clamp(max=1)
    x, y = draws.between(-1, 1) * (1 - width), draws.between(-1, 1) * (1 - height)
    zero = torch.zeros_like(width)
    return _map([[width, zero, x], [zero, height, y]])


def shift_map(given: spec.Shift, draws: Draws, aspect: float) -> Tensor:
    """A share of the side is twice that in coordinates of width 2."""
    x, y = draws.between(-2 * given.amount, 2 * given.amount), draws.between(-2 * given.amount, 2 * given.amount)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    return _map([[one, zero, x], [zero, one, y]])


def rotation_map(given: spec.Rotation, draws: Draws, aspect: float) -> Tensor:
    """A rotation of the pixels, hence with the aspect in it."""
    angle = draws.between(-math.radians(given.degrees), math.radians(given.degrees))
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return _map([[cos, -sin / aspect, zero], [sin * aspect, cos, zero]])


def flip_map(given: spec.Flip, draws: Draws, aspect: float) -> Tensor:
    """Mirrored left to right; `p` decides for whom."""
    one = torch.ones(draws.uniform().shape, device=draws.device)
    zero = torch.zeros_like(one)
    return _map([[-one, zero, zero], [zero, one, zero]])


def resample(x_bCHW: Tensor, map_b33: Tensor, fill: float | None = None) -> Tensor:
    """The image read through the map, bilinear; outside of it is `fill`, or by default the border's values."""
    grid = F.affine_grid(map_b33[:, :2].to(x_bCHW.dtype), list(x_bCHW.shape), align_corners=False)
    if fill is not None:
        return F.grid_sample(x_bCHW - fill, grid, mode="bilinear", padding_mode="zeros", align_corners=False) + fill
    return F.grid_sample(x_bCHW, grid, mode="bilinear", padding_mode="border", align_corners=False)


@cache
def _constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Copied to a device once."""
    return torch.tensor(values, dtype=dtype, device=device)


def _factor(draws: Draws, amount: float) -> Tensor:
    return draws.between(1 - amount, 1 + amount)[:, :, None, None]


def _grey(x_bCHW: Tensor) -> Tensor:
    """(b, 1, H, W). Raises DataError where there are not three channels."""
    if x_bCHW.shape[1] != 3:
        raise DataError(f"this augmentation needs red, green and blue, and the image has {x_bCHW.shape[1]} channels")
    return (x_bCHW * _constant(LUMA, x_bCHW.dtype, x_bCHW.device).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def brightness(x_bCHW: Tensor, given: spec.Brightness | spec.Jitter, draws: Draws) -> Tensor:
    """Each image times a factor of its own; (b, C, H, W) in [0, 1], and so is the result."""
    amount = given.brightness if isinstance(given, spec.Jitter) else given.amount
    return (x_bCHW * _factor(draws, amount)).clamp(0, 1)


def contrast(x_bCHW: Tensor, given: spec.Contrast | spec.Jitter, draws: Draws) -> Tensor:
    """Distance from each image's own mean grey times a factor; (b, C, H, W) in [0, 1], and so is the result."""
    amount = given.contrast if isinstance(given, spec.Jitter) else given.amount
    grey = _grey(x_bCHW) if x_bCHW.shape[1] == 3 else x_bCHW
    mean = grey.mean(dim=(1, 2, 3), keepdim=True)
    return (mean + (x_bCHW - mean) * _factor(draws, amount)).clamp(0, 1)


def saturation(x_bCHW: Tensor, given: spec.Jitter, draws: Draws) -> Tensor:
    """Distance of each pixel from its grey times a factor; (b, 3, H, W), else DataError."""
    grey = _grey(x_bCHW)
    return (grey + (x_bCHW - grey) * _factor(draws, given.saturation)).clamp(0, 1)


def hue(x_bCHW: Tensor, given: spec.Jitter, draws: Draws) -> Tensor:
    """The hue of HSV turned by up to `hue` of the circle; value and saturation as they were."""
    turn_b111 = draws.between(-given.hue, given.hue)[:, :, None, None]
    top, low = x_bCHW.amax(dim=1, keepdim=True), x_bCHW.amin(dim=1, keepdim=True)
    spread = top - low
    r, g, b = (x_bCHW / spread.clamp(min=1e-8)).split(1, dim=1)
    sixth = torch.where(top == x_bCHW[:, :1], g - b, torch.where(top == x_bCHW[:, 1:2], 2 + b - r, 4 + r - g))
    sixth = (sixth + 6 * turn_b111) % 6
    # channel k of a pure hue h is clamp(|((h + offset_k) mod 6) - 3| - 1, 0, 1)
    offsets = _constant((0.0, 4.0, 2.0), x_bCHW.dtype, x_bCHW.device).view(1, 3, 1, 1)
    pure = (((sixth + offsets) % 6 - 3).abs() - 1).clamp(0, 1)
    return low + spread * pure


def jitter(x_bCHW: Tensor, given: spec.Jitter, draws: Draws) -> Tensor:
    """The four changes in an order drawn once a batch (common libraries draw it once an image)."""
    changes = [brightness, contrast, saturation, hue]
    for i in draws.order(len(changes)):
        x_bCHW = changes[i](x_bCHW, given, draws)
    return x_bCHW


def greyscale(x_bCHW: Tensor, given: spec.Greyscale, draws: Draws) -> Tensor:
    """Luma (ITU-R BT.601 weights) in all three channels; (b, 3, H, W), else DataError."""
    return _grey(x_bCHW).expand_as(x_bCHW)


def blur(x_bCHW: Tensor, given: spec.Blur, draws: Draws) -> Tensor:
    """Separable Gaussian cut at three widths, each image its own; a sum of shifted images, fast on any device."""
    sigma_b1 = draws.between(*given.sigma)
    radius = min(math.ceil(3 * given.sigma[1]), x_bCHW.shape[2] - 1, x_bCHW.shape[3] - 1)
    offsets = torch.arange(-radius, radius + 1, device=x_bCHW.device)
    kernel_bK = torch.softmax(-(offsets**2) / (2 * sigma_b1**2), dim=1)
    for axis, padding in ((3, (radius, radius, 0, 0)), (2, (0, 0, radius, radius))):
        padded, size = F.pad(x_bCHW, padding, mode="reflect"), x_bCHW.shape[axis]
        parts = (padded.narrow(axis, k, size) * kernel_bK[:, k].view(-1, 1, 1, 1) for k in range(len(offsets)))
        x_bCHW = torch.stack(list(parts)).sum(dim=0)
    return x_bCHW


class Draws:
    """Draws for the global batch of `total` = B rows, from which a rank takes its `rows`.

    On a CPU they come from the generator itself. On another device they are made there, so that nothing is copied, from
    a seed that the generator gives: other numbers, and again the same for any number of ranks.
    """

    def __init__(self, generator: torch.Generator, total: int, rows: slice, device: torch.device) -> None:
        self.total, self.rows, self.device, self.of_cpu = total, rows, device, generator
        self.generator = generator
        if device.type != "cpu":
            seed = int(torch.randint(2**62, (), generator=generator))
            self.generator = torch.Generator(device).manual_seed(seed)

    def uniform(self, width: int = 1) -> Tensor:
        """(b, width) in [0, 1)."""
        return torch.rand(self.total, width, generator=self.generator, device=self.device)[self.rows]

    def between(self, low: float, high: float) -> Tensor:
        """(b, 1) in [low, high)."""
        return low + (high - low) * self.uniform()

    def chance(self, p: float) -> Tensor:
        """(b, 1) bool, True with probability p."""
        return self.uniform() < p

    def normal(self, *shape: int) -> Tensor:
        """(b, *shape) of N(0, 1)."""
        return torch.randn(self.total, *shape, generator=self.generator, device=self.device)[self.rows]

    def order(self, count: int) -> list[int]:
        """A permutation of range(count), one for the whole batch."""
        return torch.randperm(count, generator=self.of_cpu).tolist()


GEOMETRIC: dict[type[spec.Augmentation], Callable[[Any, Draws, float], Tensor]] = {
    spec.Crop: crop_map,
    spec.Shift: shift_map,
    spec.Rotation: rotation_map,
    spec.Flip: flip_map,
}


def add_noise(x: Tensor, given: spec.Noise, draws: Draws) -> Tensor:
    """x + std * N(0, 1), any shape."""
    return x + given.std * draws.normal(*x.shape[1:]).to(x.dtype)


def drop_features(x_bF: Tensor, given: spec.Drop, draws: Draws) -> Tensor:
    """Each feature 0 with a probability that is drawn once an instance."""
    return x_bF.masked_fill(draws.uniform(x_bF.shape[1]) < draws.uniform() * given.share, 0)


def drop_steps(x_bTF: Tensor, given: spec.DropSteps, draws: Draws) -> Tensor:
    """round(f * L) different ones of a row's L steps 0."""
    padding_bT = _padding(x_bTF)
    count_b1 = (draws.uniform() * given.share * (~padding_bT).sum(dim=1, keepdim=True)).round()
    # padded steps come last in the order, which no count reaches
    rank_bT = draws.uniform(x_bTF.shape[1]).masked_fill(padding_bT, 2).argsort(dim=1).argsort(dim=1)
    return x_bTF.masked_fill((rank_bT < count_b1)[:, :, None], 0)


def _padding(x_bTF: Tensor) -> Tensor:
    """(b, T) True where a row has no step, which is NaN."""
    return x_bTF.isnan().all(dim=2)


PER_INSTANCE: dict[type[spec.Augmentation], Callable[[Tensor, Any, Draws], Tensor]] = {
    spec.Brightness: brightness,
    spec.Contrast: contrast,
    spec.Jitter: jitter,
    spec.Greyscale: greyscale,
    spec.Blur: blur,
    spec.Noise: add_noise,
    spec.Drop: drop_features,
    spec.DropSteps: drop_steps,
}


class Augmenter:
    """The augmentations of one modality, in order. Neighbouring geometric ones are one resampling.

    `kind`: image (float in [0, 1] or uint8, which becomes it), vector, sequence (NaN after a row's last step, and so it
    stays) or text (word pieces, never augmented). `steps`: as `parse_augmentations` gives them; none = identity.
    """

    def __init__(self, kind: str, steps: Sequence[spec.Augmentation]) -> None:
        self.kind, self.steps = kind, list(steps)

    def __call__(
        self, x: Tensor, generator: torch.Generator, rows: slice = slice(None), total: int | None = None
    ) -> Tensor:
        """An augmented copy of `x`, (b, ...): the `rows` of a global batch of `total` = B rows; default: all of it.

        Everything is drawn for the global batch, from a `generator` in the same state on every rank, so that the number
        of ranks changes nothing. Raises DataError: `x` does not have the number of axes of its kind.
        """
        if x.ndim != RANKS[self.kind]:
            raise DataError(f"augmentation: a batch of kind '{self.kind}' has {RANKS[self.kind]} axes, not {x.ndim}")
        if self.kind == "image":
            x = unit_pixels(x)
        draws = Draws(generator, len(x) if total is None else total, rows, x.device)
        pending: Tensor | None = None
        fill: float | None = None
        for step in self.steps:
            if type(step) in GEOMETRIC:
                fill = getattr(step, "fill", None) if pending is None or fill is None else fill
                map_b33 = GEOMETRIC[type(step)](step, draws, x.shape[3] / x.shape[2])
                step_b33 = _chosen(step, draws, map_b33, torch.eye(3, device=map_b33.device))
                pending = step_b33 if pending is None else pending @ step_b33
                continue
            if pending is not None:
                x, pending = resample(x, pending, fill), None
            x = _chosen(step, draws, PER_INSTANCE[type(step)](x, step, draws), x)
        return x if pending is None else resample(x, pending, fill)


def _chosen(step: spec.Augmentation, draws: Draws, changed: Tensor, otherwise: Tensor) -> Tensor:
    """`changed` for each row with the step's probability."""
    if step.p == 1:
        return changed
    return torch.where(draws.chance(step.p).view(-1, *[1] * (changed.ndim - 1)), changed, otherwise)
