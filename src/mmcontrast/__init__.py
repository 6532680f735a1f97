"""Multimodal contrastive learning that reproduces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmcontrast.trained import TrainedModel

__version__ = "0.1.0"


def load(path: str | Path, device: str = "cpu", seed: int | None = None) -> TrainedModel:
    """A trained model, for raw inputs; see `mmcontrast.trained.load`."""
    # imported late: the workflow imports this package at each start, and torch takes seconds
    from mmcontrast.trained import load as load_trained

    return load_trained(path, device, seed)
