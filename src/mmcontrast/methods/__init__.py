"""A folder per paper, and baselines; a file names its class METHOD, or several METHODS.

What is public here is imported when it is asked for: the objectives' hyper-parameters, which lie in the same folders,
are read without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmcontrast.methods.base import Batch, Method, Progress, build_method

__all__ = ["Batch", "Method", "Progress", "build_method"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module("mmcontrast.methods.base"), name)
