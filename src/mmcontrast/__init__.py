"""Multimodal contrastive learning that reproduces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmcontrast.methods.base import Method

__version__ = "0.1.0"


def load(path: str | Path) -> Method:
    """A trained method in evaluation mode; see `mmcontrast.exported.load`."""
    # imported late: the workflow imports this package at each start, and torch takes seconds
    from mmcontrast.exported import load as load_exported

    return load_exported(path)
