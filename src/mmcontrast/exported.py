"""Trained models as files: `seed<k>.safetensors` with the weights, `cell.json` beside them with all that built them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from mmcontrast.config import CellConfig
from mmcontrast.data.json_text import read_json
from mmcontrast.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from mmcontrast.methods.base import Method


def load(path: str | Path) -> Method:
    """A trained method in evaluation mode, on the CPU.

    Its `embed(batch)` and, after finetuning, `logits(batch)` take a `mmcontrast.methods.Batch`; `.cell` is what it was
    trained with.

    Args:
        path: runs/<dataset>/<method>/<variant>/<stage>/models/seed<k>.safetensors.

    Raises:
        DataError: the file or cell.json beside it is missing, damaged, or does not belong to the other.
    """
    from mmcontrast.methods.build import build_method

    file = Path(path)
    cell = read_cell(file.parent / "cell.json")
    weights = read_weights(file)
    method = build_method(cell)
    try:
        method.load_state_dict(weights)
    except RuntimeError as e:
        reason = str(e).splitlines()[-1].strip()
        raise DataError(f"{file}: does not belong to {file.parent / 'cell.json'} ({reason})") from None
    return method.eval()


def read_weights(file: Path) -> dict[str, Tensor]:
    """The weights in a file, by name, on the CPU. Raises DataError: missing, damaged, or no safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except FileNotFoundError:
        there = ", ".join(sorted(p.name for p in file.parent.glob("*.safetensors"))) or "none"
        raise DataError(f"{file}: no such file; models in this folder: {there}") from None
    except (SafetensorError, OSError, ValueError, RuntimeError, MemoryError) as e:
        raise DataError(f"{file}: damaged, or not a safetensors file ({e}); train the cell again") from None


def exported_epoch(path: str | Path) -> int:
    """The epoch that the weights in a safetensors file are of, 0-based."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as handle:
        return int(json.loads(handle.metadata()["mmcontrast"])["epoch"])


def read_cell(path: Path) -> CellConfig:
    """The configuration beside weights. Raises DataError: missing, not JSON, or of a version with other parameters."""
    try:
        return CellConfig.model_validate(read_json(path))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; it is written beside the weights when a cell is trained") from None
    except ValidationError as e:
        fault = e.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        reason = f"{where}: {fault['msg']}"
        raise DataError(f"{path}: not what this version writes ({reason}); train the cell again") from None
    except ValueError as e:
        raise DataError(f"{path}: damaged ({e}); train the cell again") from None
