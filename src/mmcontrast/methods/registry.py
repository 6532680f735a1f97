"""Where a method's code lies. Imports no torch, so that a workflow may ask at each start."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmcontrast.config import CellConfig


def method_module(implementation: str) -> str:
    """Module that names its class METHOD: methods/<paper>/method.py, or a file of methods/baselines/.

    Raises:
        ModuleNotFoundError: there is neither.
    """
    folder, file = f"mmcontrast.methods.{implementation}", f"mmcontrast.methods.baselines.{implementation}"
    if find_spec(folder) is not None:
        return f"{folder}.method"
    if find_spec(file) is not None:
        return file
    raise ModuleNotFoundError(f"no method {implementation} under mmcontrast.methods")


def training_modules(cell: CellConfig) -> list[str]:
    """Modules whose imports together are the code that decides what a cell's training gives."""
    return ["mmcontrast.training.cell", method_module(cell.implementation)]
