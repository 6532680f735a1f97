"""Weights as safetensors, with a checksum of the tensors beside what else is known of them.

safetensors runs nothing and checks sizes and offsets, but not that the numbers are those that were written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mmcontrast.data.files import replacing
from mmcontrast.errors import DataError

KEY = "mmcontrast"
SHA256 = "sha256"


def write_weights(path: Path, weights: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write weights atomically. Equal weights give equal bytes.

    Args:
        about: plain values that go into the file's metadata, beside the checksum.
    """
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    # one key alone: safetensors writes several in an order that changes from run to run
    metadata = {KEY: json.dumps({**about, SHA256: digest(whole)})}
    with replacing(path) as temporary:
        save_file(whole, temporary, metadata)


def read_weights(path: Path, remedy: str) -> dict[str, Tensor]:
    """Weights on the CPU, each number as it was written.

    Args:
        remedy: what to do about a damaged file, as the end of a sentence.

    Raises:
        DataError: damaged, or not written by `write_weights`. FileNotFoundError: it is missing.
    """
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})[KEY])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        expected = about[SHA256]
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError, RecursionError, MemoryError) as e:
        reason = (str(e) or type(e).__name__).splitlines()[0]
        raise DataError(f"{path}: damaged, or no weights that are written here ({reason}); {remedy}") from None
    if digest(weights) != expected:
        raise DataError(f"{path}: damaged: the weights do not have the checksum they were written with; {remedy}")
    return weights


def digest(weights: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and bytes, by name."""
    out = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        out.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        out.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return out.hexdigest()
