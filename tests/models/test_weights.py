"""Weights come back to the last bit, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mmcontrast.errors import DataError
from mmcontrast.models.weights import read_weights, write_weights

WEIGHTS = {
    "layer.weight": torch.randn(4, 3, generator=torch.Generator().manual_seed(0)),
    "turned": torch.arange(6.0).reshape(2, 3).T,
    "half": torch.ones(3, dtype=torch.bfloat16),
    "steps": torch.tensor(7),
    "none": torch.zeros(0, 2),
}


def test_weights_come_back(tmp_path: Path) -> None:
    path = tmp_path / "seed0.safetensors"
    write_weights(path, WEIGHTS, {"epoch": 3})
    for found in (read_weights(path, "again"), load_file(path)):
        assert found.keys() == WEIGHTS.keys()
        assert all(torch.equal(found[k], w) and found[k].dtype == w.dtype for k, w in WEIGHTS.items())
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["mmcontrast"])["epoch"] == 3
    before = path.read_bytes()
    write_weights(path, dict(reversed(WEIGHTS.items())), {"epoch": 3})
    assert path.read_bytes() == before


def test_other_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "seed0.safetensors"
    write_weights(path, WEIGHTS, {"epoch": 3})
    raw = path.read_bytes()
    path.write_bytes(raw[:-3] + bytes([raw[-3] ^ 1]) + raw[-2:])
    with pytest.raises(DataError, match=r"seed0\.safetensors: damaged: the weights do not have the checksum.*; again"):
        read_weights(path, "again")


def test_weights_of_other_programs_are_refused(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(DataError, match="no weights that are written here"):
        read_weights(tmp_path / "x.safetensors", "again")
    with pytest.raises(FileNotFoundError):
        read_weights(tmp_path / "y.safetensors", "again")
