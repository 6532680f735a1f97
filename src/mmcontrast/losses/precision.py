"""Losses are computed in float32 at least, whatever precision the model runs in."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")

HALF = (torch.float16, torch.bfloat16)


def upcast(x: Tensor) -> Tensor:
    """`x` in float32 where it is a half-precision tensor; float32, float64 and integers as they are."""
    return x.float() if x.dtype in HALF else x


def full_precision(loss: Callable[P, R]) -> Callable[P, R]:
    """Decorator: half-precision tensor arguments become float32 and autocast is off inside.

    Similarities divided by a temperature of 0.1 and exponentiated lose most of bfloat16's eight bits; autocast would
    turn the matrix product back to bfloat16 even for float32 arguments. Gradients return in the caller's precision.
    """

    @functools.wraps(loss)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        def fix(value: Any) -> Any:
            return upcast(value) if isinstance(value, Tensor) else value

        device = next((a.device.type for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), "cpu")
        with torch.autocast(device_type=device, enabled=False):
            return loss(*(fix(a) for a in args), **{k: fix(v) for k, v in kwargs.items()})

    return inner
