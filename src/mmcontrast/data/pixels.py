"""Pixels as numbers: they are stored as bytes, and everything that computes with them takes [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor


def unit_pixels(x: Tensor) -> Tensor:
    """uint8 divided by 255, as float32; floating-point numbers as they are. Any shape."""
    return x if torch.is_floating_point(x) else x.float() / 255
