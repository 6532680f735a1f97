"""One module a method; each names its class METHOD. Loaded by name, so that a run imports its own method alone."""

from __future__ import annotations

import importlib

from mmcontrast.config import CellConfig
from mmcontrast.methods.base import Batch, Method, Progress

__all__ = ["Batch", "Method", "Progress", "build_method"]


def build_method(cell: CellConfig) -> Method:
    """The cell's method with freshly initialised weights, drawn from torch's global generator."""
    module = importlib.import_module(f"mmcontrast.methods.{cell.implementation}")
    method: Method = module.METHOD(cell)
    return method
