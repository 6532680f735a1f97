"""Exported models come back as they were, and what is no model is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import mmcontrast
from mmcontrast.config import Grid
from mmcontrast.data.json_text import read_json
from mmcontrast.errors import DataError
from mmcontrast.exported import exported_epoch
from mmcontrast.methods.base import Batch
from mmcontrast.methods.build import build_method

ROOT = Path(__file__).parents[1]


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """A concatenation model with known weights, as a training leaves it."""
    cell = Grid(ROOT).cell("synthetic", "concat", "base")
    torch.manual_seed(0)
    weights = build_method(cell).state_dict()
    metadata = {"mmcontrast": json.dumps({"epoch": 7, "seed": 0, "version": "0"})}
    save_file(weights, tmp_path / "seed0.safetensors", metadata)
    (tmp_path / "cell.json").write_text(json.dumps(cell.model_dump(mode="json")))
    return tmp_path / "seed0.safetensors"


def test_a_model_comes_back_as_it_was(exported: Path) -> None:
    method = mmcontrast.load(exported)
    torch.manual_seed(0)
    same = build_method(method.cell).eval()
    inputs = {m: torch.randn(5, *spec.shape) for m, spec in method.cell.modalities.items()}
    batch = Batch(inputs, torch.zeros(5, dtype=torch.int64))
    assert not method.training
    assert torch.equal(method.embed(batch), same.embed(batch))
    logits, expected = method.logits(batch), same.logits(batch)
    assert logits is not None
    assert expected is not None
    assert torch.equal(logits, expected)
    assert exported_epoch(exported) == 7


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("seed0.safetensors", None, r"seed0\.safetensors: no such file; models in this folder: none"),
        ("seed0.safetensors", b"", r"seed0\.safetensors: damaged, or not a safetensors file"),
        ("seed0.safetensors", (2**62).to_bytes(8, "little") + b"{}", "damaged, or not a safetensors file"),
        ("cell.json", None, r"cell\.json: no such file; it is written beside the weights"),
        ("cell.json", b"{", r"cell\.json: damaged"),
        ("cell.json", b'{"dataset": "d"}', r"cell\.json: not what this version writes \(method: Field required"),
    ],
)
def test_what_is_no_model_is_refused(exported: Path, name: str, content: bytes | None, told: str) -> None:
    path = exported.parent / name
    path.unlink() if content is None else write(path, content)
    with pytest.raises(DataError, match=told):
        mmcontrast.load(exported)


def test_weights_of_another_cell_are_refused(exported: Path) -> None:
    cell = read_json(exported.parent / "cell.json")
    cell["model"]["width"] += 1
    (exported.parent / "cell.json").write_text(json.dumps(cell))
    with pytest.raises(DataError, match=r"seed0\.safetensors: does not belong to .*cell\.json \(size mismatch"):
        mmcontrast.load(exported)
