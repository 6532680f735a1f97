"""Exported models come back as they were, and what is no model is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import mmcontrast
from mmcontrast.data.files import read_json
from mmcontrast.data.scaling import write_fitted
from mmcontrast.errors import DataError
from mmcontrast.exported import SeedExport, sealed, write_models
from mmcontrast.methods.base import Batch, build_method
from mmcontrast.trained import exported_epoch, load_method
from tests.grids import grid_of
from tests.scalers import fit


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """A concatenation model with known weights, as a training leaves it."""
    cell = grid_of().cell("synthetic", "concat", "base")
    draws = np.random.default_rng(0)
    scalers = {m: fit(draws.normal(3, 2, (9, *spec.shape)), "standard") for m, spec in cell.modalities.items()}
    write_fitted(tmp_path, scalers, {})
    torch.manual_seed(0)
    seed = SeedExport(build_method(cell).state_dict(), 7, {})
    write_models(tmp_path / "models", cell, {0: seed}, tmp_path / "fitted.json")
    return tmp_path / "models/seed0.safetensors"


def test_a_model_comes_back_as_it_was(exported: Path) -> None:
    method = load_method(exported)
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
        ("fitted.json", b"{}", r"fitted\.json: not what training wrote there; train the cell again"),
        ("checksums.json", None, r"seed0\.safetensors: not there, or without its checksum in checksums\.json"),
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


def test_weights_that_were_changed_are_refused(exported: Path) -> None:
    content = bytearray(exported.read_bytes())
    content[-1] ^= 1
    exported.write_bytes(content)
    with pytest.raises(DataError, match=r"seed0\.safetensors: not what training wrote there"):
        mmcontrast.load(exported)


def test_what_is_of_no_seed_any_more_is_removed(exported: Path) -> None:
    folder, cell = exported.parent, load_method(exported).cell
    for name in ("seed1.safetensors", "encoders/text/config.json", "seed0.text.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("old")
    (folder / ".snakemake_timestamp").write_text("")
    seed = SeedExport(build_method(cell).state_dict(), 7, {})
    write_models(folder, cell, {0: seed}, exported.parents[1] / "fitted.json")
    kept = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    names = {"cell.json", "fitted.json", "seed0.safetensors"}
    assert kept == names | {"checksums.json", ".snakemake_timestamp"}
    assert set(read_json(folder / "checksums.json")) == names
    assert all(sealed(folder / name).is_file() for name in names)


def test_a_cells_folder_stands_for_its_last_stage_and_first_seed(exported: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs/synthetic/concat/base"
    for stage, seeds in {"pretrain": (0, 1), "finetune": (2, 10)}.items():
        (run / stage).mkdir(parents=True)
        weights = {seed: SeedExport(load_method(exported).state_dict(), seed, {}) for seed in seeds}
        write_models(run / stage / "models", load_method(exported).cell, weights, tmp_path / "fitted.json")
    from mmcontrast.trained import weights_file

    assert weights_file(run) == run / "finetune/models/seed2.safetensors"
    assert weights_file(run / "pretrain") == run / "pretrain/models/seed0.safetensors"
    with pytest.raises(DataError, match="nothing: holds no trained model; name seed<k>"):
        mmcontrast.load(tmp_path / "nothing")
