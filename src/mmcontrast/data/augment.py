"""Augmentations of a batch of one modality, on the device the batch is on, from an explicit generator.

Shapes: b rows of this rank, B rows of the global batch, F features, T steps, C x H x W image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mmcontrast.config import augmentations as spec
from mmcontrast.data import augment_image as image
from mmcontrast.data.draws import Draws
from mmcontrast.data.pixels import unit_pixels
from mmcontrast.errors import DataError

RANKS = {"image": 4, "vector": 2, "sequence": 3, "text": 2}

GEOMETRIC: dict[type[spec.Augmentation], Callable[[Any, Draws, float], Tensor]] = {
    spec.Crop: image.crop_map,
    spec.Shift: image.shift_map,
    spec.Rotation: image.rotation_map,
    spec.Flip: image.flip_map,
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


def crop_steps(x_bTF: Tensor, given: spec.CropSteps, draws: Draws) -> Tensor:
    """ceil(f * L) steps in a row of a row's L, moved to its beginning; padding after them."""
    steps_b1 = (~_padding(x_bTF)).sum(dim=1, keepdim=True)
    length_b1 = (draws.between(*given.scale) * steps_b1).ceil().long()
    start_b1 = (draws.uniform() * (steps_b1 - length_b1 + 1)).long()
    place_T = torch.arange(x_bTF.shape[1], device=x_bTF.device)
    source_bT = (start_b1 + place_T).clamp(max=x_bTF.shape[1] - 1)
    moved_bTF = x_bTF.gather(1, source_bT[:, :, None].expand_as(x_bTF))
    return moved_bTF.masked_fill((place_T >= length_b1)[:, :, None], torch.nan)


def _padding(x_bTF: Tensor) -> Tensor:
    """(b, T) True where a row has no step, which is NaN."""
    return x_bTF.isnan().all(dim=2)


PER_INSTANCE: dict[type[spec.Augmentation], Callable[[Tensor, Any, Draws], Tensor]] = {
    spec.Brightness: image.brightness,
    spec.Contrast: image.contrast,
    spec.Jitter: image.jitter,
    spec.Greyscale: image.greyscale,
    spec.Blur: image.blur,
    spec.Noise: add_noise,
    spec.Drop: drop_features,
    spec.DropSteps: drop_steps,
    spec.CropSteps: crop_steps,
}


class Augmenter:
    """The augmentations of one modality, in order. Neighbouring geometric ones are one resampling.

    Args:
        kind: image (float in [0, 1] or uint8, which becomes it), vector, sequence (NaN after a row's last step, and so
            it stays) or text (word pieces, for which there is no augmentation).
        steps: as `parse_augmentations` gives them; none = identity.
    """

    def __init__(self, kind: str, steps: Sequence[spec.Augmentation]) -> None:
        self.kind, self.steps = kind, list(steps)

    def __call__(
        self, x: Tensor, generator: torch.Generator, rows: slice = slice(None), total: int | None = None
    ) -> Tensor:
        """An augmented copy; `x` is not changed.

        Args:
            x: (b, ...) of this rank.
            generator: in the same state on every rank. Everything is drawn for the global batch and `rows` of it are
                used, so that the number of ranks changes nothing.
            rows, total: the rows of the global batch that `x` holds, and its size B; default: all of it.

        Raises:
            DataError: `x` does not have the number of axes of its kind.
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
                step_b33 = _chosen_map(step, draws, x.shape[3] / x.shape[2])
                pending = step_b33 if pending is None else pending @ step_b33
                continue
            if pending is not None:
                x, pending = image.resample(x, pending, fill), None
            x = _on_chosen(x, step, draws)
        return x if pending is None else image.resample(x, pending, fill)


def _chosen_map(step: spec.Augmentation, draws: Draws, aspect: float) -> Tensor:
    map_b33 = GEOMETRIC[type(step)](step, draws, aspect)
    if step.p == 1:
        return map_b33
    return torch.where(draws.chance(step.p)[:, :, None], map_b33, torch.eye(3, device=map_b33.device))


def _on_chosen(x: Tensor, step: spec.Augmentation, draws: Draws) -> Tensor:
    changed = PER_INSTANCE[type(step)](x, step, draws)
    if step.p == 1:
        return changed
    return torch.where(draws.chance(step.p).view(-1, *[1] * (x.ndim - 1)), changed, x)
