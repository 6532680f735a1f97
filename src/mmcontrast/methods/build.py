"""A cell's method by its name, so that a run imports its own method alone."""

from __future__ import annotations

import importlib

from mmcontrast.config import CellConfig
from mmcontrast.methods.base import Method
from mmcontrast.methods.registry import method_module


def method_class(cell: CellConfig) -> type[Method]:
    """The class of the cell's method."""
    found: type[Method] = importlib.import_module(method_module(cell.implementation)).METHOD
    return found


def build_method(cell: CellConfig) -> Method:
    """The cell's method with freshly initialised weights, drawn from torch's global generator."""
    return method_class(cell)(cell)
