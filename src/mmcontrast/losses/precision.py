"""Losses are computed in float32 at least, whatever precision the model runs in."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
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
    """Decorator: half-precision tensors among the arguments become float32 and autocast is off inside.

    Similarities divided by a temperature of 0.1 and exponentiated lose most of bfloat16's eight bits; autocast would
    turn the matrix product back to bfloat16 even for float32 arguments. Gradients return in the caller's precision.
    """

    @functools.wraps(loss)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        devices = []

        def fix(value: Any) -> Any:
            if isinstance(value, Tensor):
                devices.append(value.device.type)
                return upcast(value)
            if isinstance(value, list | tuple):
                return [fix(v) for v in value]
            return {k: fix(v) for k, v in value.items()} if isinstance(value, Mapping) else value

        given, named = fix(args), fix(kwargs)
        with torch.autocast(device_type=devices[0] if devices else "cpu", enabled=False):
            return loss(*given, **named)

    return inner
