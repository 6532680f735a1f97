"""A stage of a cell from data to files: what it leaves behind, stopped and started again, refused, on two ranks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from polars.testing import assert_frame_equal
from safetensors.torch import load_file

from mmcontrast import paths
from mmcontrast.config import CellConfig
from mmcontrast.data.loading import load_whole
from mmcontrast.data.prepare import prepare
from mmcontrast.errors import DataError, TrainingError
from mmcontrast.paths import Layout
from mmcontrast.training.batching import batches
from mmcontrast.training.cell import run_stage
from tests.grids import grid_of

ROOT = Path(__file__).parents[2]
LAYOUT = Layout("tests")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with params/ and the generated dataset."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "params", root / "params")
    dataset = grid_of().datasets["synthetic"]
    prepare("synthetic", dataset, root / "none", root / Path(paths.datasheet("synthetic")).parent)
    return root


@pytest.fixture
def checkout(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, to be written to; the tests run in it."""
    shutil.copytree(prepared, tmp_path / "checkout")
    (tmp_path / "checkout/src").symlink_to(ROOT / "src")
    monkeypatch.chdir(tmp_path / "checkout")
    return tmp_path / "checkout"


def small(variant: str = "base", method: str = "m3col", **finetune: Any) -> CellConfig:
    """A tiny cell on plain torch."""
    cell = grid_of().cell("synthetic", method, variant)
    assert cell.finetune is not None
    stage = {"epochs": 6, "eval_every": 2, "checkpoint_every": 2, "batch_size": 48, **finetune}
    update: dict[str, Any] = {
        "model": cell.model.model_copy(update={"width": 8, "encoder_hidden": [8], "head_hidden": [8]}),
        "finetune": cell.finetune.model_copy(update=stage),
        "seeds": [3, 5],
        "engine": cell.engine.model_copy(update={"backend": "torch"}),
    }
    if cell.pretrain is not None:
        update["pretrain"] = cell.pretrain.model_copy(update={"epochs": 3})
    return cell.model_copy(update=update)


def outputs(cell: CellConfig, stage: str) -> dict[str, bytes]:
    """Every file a stage leaves behind but its cost, which is never the same twice."""
    folder = Path(LAYOUT.stage(cell.name, stage))
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.stem != "cost"}


def test_batches_see_every_row_once_and_none_is_tiny() -> None:
    generator = torch.Generator().manual_seed(0)
    for n, size in [(10, 3), (9, 8), (100, 33), (5, 5), (7, 100)]:
        dealt = batches(n, size, generator)
        assert sorted(torch.cat(dealt).tolist()) == list(range(n))
        assert max(map(len, dealt)) <= size
        assert max(map(len, dealt)) - min(map(len, dealt)) <= 1
    first, second = batches(10, 3, generator), batches(10, 3, generator)
    assert torch.cat(first).tolist() != torch.cat(second).tolist()


def test_what_a_stage_leaves_behind(checkout: Path) -> None:
    cell = small("pretrained")
    run_stage(cell, "pretrain", LAYOUT)
    cost = run_stage(cell, "finetune", LAYOUT)
    folder = Path(LAYOUT.stage(cell.name, "finetune"))
    history = pl.read_parquet(folder / "history.parquet")
    assert history.filter(pl.col("name") == "train/loss").group_by("seed").len()["len"].to_list() == [6, 6]
    predictions = pl.read_parquet(folder / "predictions.parquet")
    assert sorted(predictions["epoch"].unique()) == [1, 3, 5]
    assert predictions.group_by("split").len().sort("split")["len"].to_list() == [48 * 6, 48 * 6]
    assert np.allclose(np.stack(predictions["probs"].to_numpy()).sum(-1), 1, atol=1e-5)
    embeddings = pl.read_parquet(folder / "embeddings.parquet")
    assert set(embeddings["split"].unique()) == {"train", "val", "test"}
    assert embeddings["embedding"].dtype == pl.Array(pl.Float32, 24)
    assert json.loads((folder / "models/cell.json").read_text())["variant"] == "pretrained"
    assert cost["seeds"] == 2
    assert not list(LAYOUT.state(cell.name, "finetune").rglob("checkpoint-*"))


def test_the_selected_weights_are_those_of_the_best_validation_epoch(checkout: Path) -> None:
    """Embeddings and model files belong to the epoch that evaluation calls `selected`."""
    from mmcontrast.evaluation.evaluate import evaluate_cell
    from mmcontrast.methods.base import Batch, build_method

    cell = small(epochs=20, eval_every=1)
    run_stage(cell, "finetune", LAYOUT)
    folder = Path(LAYOUT.stage(cell.name, "finetune"))
    out = [folder / f"{name}.parquet" for name in ("metrics", "curves", "intervals")]
    evaluate_cell(cell, folder / "predictions.parquet", *out)
    selected = pl.read_parquet(out[0]).filter((pl.col("protocol") == "selected") & (pl.col("split") == "test"))
    test = pl.read_parquet(paths.prepared("synthetic", "test"))
    inputs = {m: torch.tensor(np.stack(test[m].to_numpy())) for m in cell.modalities}
    for seed in cell.seeds:
        method = build_method(cell)
        method.load_state_dict(load_file(folder / f"models/seed{seed}.safetensors"))
        logits = method.eval().logits(Batch(inputs, torch.tensor(test["label"].to_numpy())))
        assert logits is not None
        acc = float((logits.argmax(-1).numpy() == test["label"].to_numpy()).mean())
        row = selected.filter((pl.col("seed") == seed) & (pl.col("metric") == "acc"))
        assert acc == pytest.approx(row["value"].item())


class StoppedError(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("stop_at", [1, 3, 5, 7])
@pytest.mark.parametrize(("method", "variant"), [("m3col", "base"), ("mixup", "base"), ("m3col", "input_mixing")])
def test_stopped_and_started_again_it_ends_with_the_same_bits(
    checkout: Path, method: str, variant: str, stop_at: int
) -> None:
    cell = small(variant, method)
    run_stage(cell, "finetune", LAYOUT)
    undisturbed = outputs(cell, "finetune")
    shutil.rmtree(LAYOUT.stage(cell.name, "finetune"))
    seen = 0

    def stop(seed: int, epoch: int, epochs: int, terms: dict[str, float]) -> None:
        nonlocal seen
        seen += 1
        if seen == stop_at:
            raise StoppedError

    with pytest.raises(StoppedError):
        run_stage(cell, "finetune", LAYOUT, stop)
    ran: list[tuple[int, int]] = []
    run_stage(cell, "finetune", LAYOUT, lambda seed, epoch, epochs, terms: ran.append((seed, epoch)))
    assert outputs(cell, "finetune") == undisturbed
    assert len(ran) < 12 or stop_at < 3, "nothing was resumed"


def test_state_of_another_configuration_is_not_resumed(checkout: Path) -> None:
    cell = small()

    def stop(seed: int, epoch: int, epochs: int, terms: dict[str, float]) -> None:
        if epoch == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        run_stage(cell, "finetune", LAYOUT, stop)
    changed = cell.model_copy(update={"objective": {**cell.objective, "alpha": 1.0}})
    run_stage(changed, "finetune", LAYOUT)
    fresh = outputs(changed, "finetune")
    shutil.rmtree(LAYOUT.stage(cell.name, "finetune"))
    run_stage(changed, "finetune", LAYOUT)
    assert outputs(changed, "finetune") == fresh


def test_a_loss_that_is_not_finite_stops_the_cell_and_keeps_the_last_good_checkpoint(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmcontrast.methods.m3col.method import M3CoL

    original = M3CoL.training_loss

    def spoiled(self: Any, batch: Any, progress: Any) -> dict[str, torch.Tensor]:
        terms = original(self, batch, progress)
        return {**terms, "loss": terms["loss"] * float("nan")} if progress.epoch == 4 else terms

    monkeypatch.setattr(M3CoL, "training_loss", spoiled)
    cell = small()
    with pytest.raises(TrainingError) as e:
        run_stage(cell, "finetune", LAYOUT)
    for word in [
        "synthetic/m3col/base",
        "seed 3",
        "epoch 4",
        "step 0 of 3",
        "loss = nan",
        "Checkpoints from before it are kept in",
        "gradient_clipping",
    ]:
        assert word in str(e.value)
    assert list(LAYOUT.state(cell.name, "finetune").glob("seed3/checkpoint-*"))
    assert not Path(LAYOUT.stage(cell.name, "finetune")).exists()
    monkeypatch.undo()
    os.chdir(checkout)
    ran: list[tuple[int, int]] = []
    run_stage(cell, "finetune", LAYOUT, lambda seed, epoch, epochs, terms: ran.append((seed, epoch)))
    assert ran[0] == (3, 4)


def test_a_stage_the_cell_lacks_is_refused(checkout: Path) -> None:
    with pytest.raises(TrainingError, match="no stage 'pretrain'"):
        run_stage(small(), "pretrain", LAYOUT)


@pytest.mark.parametrize("file", [paths.prepared("synthetic", "val"), paths.fitted("synthetic")])
def test_data_that_are_not_prepared_are_told_before_training(checkout: Path, file: str) -> None:
    Path(file).unlink()
    with pytest.raises(DataError, match=f"{file}: no such file; run `mmcontrast data prepare synthetic` first"):
        run_stage(small(), "finetune", LAYOUT)


def run_on(rows: list[int], cell: CellConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train on so many rows of each class alone, of which a fifth is held out."""

    def whole(cell: CellConfig, root: Path) -> dict[str, Any]:
        tables = load_whole(cell, root)
        labels = tables["train"].labels
        few = torch.cat([(labels == c).nonzero()[:n, 0] for c, n in enumerate(rows)])
        return tables | {"train": tables["train"].take(few), "val": tables["val"].take(few[:0])}

    monkeypatch.setattr("mmcontrast.training.cell.load_whole", whole)
    run_stage(cell, "finetune", LAYOUT, lambda *_: pytest.fail("trained"))


def test_a_metric_that_a_split_cannot_be_scored_by_is_told_before_training(checkout: Path, monkeypatch: Any) -> None:
    cell = small().model_copy(update={"metrics": ["acc", "auc"]})
    told = (
        r"synthetic/m3col/base, seed 3, selection\.holdout 0\.2 of train as val: val \(4 rows\): auc: every label is "
        r"of one class.*metrics and split stand in params/datasets/synthetic\.yaml"
    )
    with pytest.raises(DataError, match=told):
        run_on([22, 2, 0], cell, monkeypatch)


def test_a_batch_of_one_row_is_told_before_training(checkout: Path, monkeypatch: Any) -> None:
    told = "synthetic/m3col/base, seed 3.*: finetune.batch_size: 2 deals the 17 rows of train into a batch of 1, which"
    with pytest.raises(DataError, match=told):
        run_on([10, 11, 0], small(batch_size=2), monkeypatch)


def test_finetuning_without_the_pretrained_weights_says_what_to_run(checkout: Path) -> None:
    cell = small("pretrained")
    with pytest.raises(DataError, match=f"run `mmcontrast pretrain {cell.name}{LAYOUT.select}` again"):
        run_stage(cell, "finetune", LAYOUT)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "deepspeed"])
def test_two_ranks_give_what_one_gives(checkout: Path, backend: str) -> None:
    """The same command starts torchrun by itself; odd batches make uneven shards."""
    histories = []
    for ranks in (1, 2):
        suite = {
            "description": "tests",
            "datasets": ["synthetic"],
            "experiments": ["tiny"],
            "seeds": [0],
            "engine": {"backend": backend, "ranks": ranks},
            "overrides": {"finetune": {"epochs": 4, "eval_every": 2, "batch_size": 49}},
        }
        experiment = {"title": "t", "caption": "t", "kind": "table", "datasets": ["synthetic"]}
        (checkout / f"params/suites/ranks{ranks}.yaml").write_text(yaml.safe_dump(suite))
        (checkout / "params/experiments/tiny.yaml").write_text(
            yaml.safe_dump({**experiment, "cells": [{"method": "m3col"}]})
        )
        command = [sys.executable, "-m", "mmcontrast", "finetune", "synthetic/m3col", "--suite", f"ranks{ranks}"]
        done = subprocess.run(command, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        folder = Path(Layout(f"ranks{ranks}").stage("synthetic/m3col/base", "finetune"))
        assert json.loads((folder / "cost.json").read_text())["ranks"] == ranks
        assert done.stdout.count("epoch 4/4") == 1
        histories.append(pl.read_parquet(folder / "history.parquet"))
    assert_frame_equal(histories[0], histories[1], rel_tol=1e-4, abs_tol=1e-5)
