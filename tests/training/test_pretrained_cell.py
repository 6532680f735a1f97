"""A cell that ends with pretraining: its data's further tasks reach the scores, and its method sees the data first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from mmcontrast import paths
from mmcontrast.config import CellConfig, Dataset
from mmcontrast.data.loading import load_split
from mmcontrast.data.prepare import prepare
from mmcontrast.errors import TrainingError
from mmcontrast.evaluation.evaluate import evaluate_cell
from mmcontrast.methods.base import build_method
from mmcontrast.paths import Layout
from mmcontrast.training.cell import run_stage
from mmcontrast.training.seeding import seed_everything
from tests.grids import grid_of

ROOT = Path(__file__).parents[2]
GRID = grid_of()
LAYOUT = Layout("tests")
NAME = "weak_modality"
VIEWS = ("encoders", "without_strong", "without_middle", "without_weak")
EMBEDDINGS = ("embedding", *(f"embedding@{view}" for view in VIEWS))


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """80 rows of the generated set; the tests run in its checkout."""
    (tmp_path / "src").symlink_to(ROOT / "src")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(rows: int = 80, **change: Any) -> CellConfig:
    """Prepare the data and return a cell of two epochs on them."""
    raw = GRID.datasets[NAME].model_dump(mode="json") | {"rows": rows, **change}
    dataset = Dataset.model_validate(raw)
    prepare(NAME, dataset, Path("none"), Path(paths.datasheet(NAME)).parent)
    cell = GRID.cell(NAME, "tuple_infonce")
    assert cell.pretrain is not None
    return cell.model_copy(
        update={
            "pretrain": cell.pretrain.model_copy(update={"epochs": 2, "batch_size": 16}),
            "seeds": [0, 1],
            "engine": cell.engine.model_copy(update={"backend": "torch"}),
            "tasks": dataset.tasks,
        }
    )


def test_further_tasks_go_with_the_embeddings_into_the_scores(checkout: Path) -> None:
    cell = make()
    run_stage(cell, "pretrain", LAYOUT)
    stored = Path(LAYOUT.stage(cell.name, "pretrain", "embeddings.parquet"))
    frame = pl.read_parquet(stored)
    assert frame.columns == ["seed", "split", "id", "label", *(f"label_{t}" for t in cell.tasks), *EMBEDDINGS]
    for split in paths.SPLITS:
        data = load_split(paths.prepared(NAME, split))
        part = frame.filter(seed=0, split=split)
        assert part["id"].to_list() == data.ids
        for task, labels in data.tasks.items():
            assert part[f"label_{task}"].to_list() == labels.tolist()

    out = [checkout / f"{name}.parquet" for name in ("metrics", "curves", "intervals")]
    evaluate_cell(cell, stored, *out)
    views = ("", "@without_strong", "@without_middle", "@without_weak", "@encoders")
    tasks = ("", *(f"{task}/" for task in cell.tasks))
    named = [f"{t}{m}{v}" for t in tasks for v in views for m in cell.metrics]
    metrics, curves, intervals = map(pl.read_parquet, out)
    assert sorted(metrics["metric"].unique()) == sorted(named)
    assert sorted(intervals["metric"]) == sorted(named)
    assert set(named) < set(curves["metric"])
    assert len(metrics) == len(named) * len(cell.seeds) * 2


def test_without_tasks_embeddings_have_no_further_columns(checkout: Path) -> None:
    cell = make(tasks={})
    run_stage(cell, "pretrain", LAYOUT)
    frame = pl.read_parquet(LAYOUT.stage(cell.name, "pretrain", "embeddings.parquet"))
    assert frame.columns == ["seed", "split", "id", "label", *EMBEDDINGS]


def test_an_untrained_cell_is_scored_with_its_initial_weights(checkout: Path) -> None:
    cell = make(tasks={})
    assert cell.pretrain is not None
    trained = cell.pretrain
    weights = {}
    for epochs in (0, 1):
        cell = cell.model_copy(update={"pretrain": trained.model_copy(update={"epochs": epochs})})
        run_stage(cell, "pretrain", LAYOUT)
        weights[epochs] = load_file(LAYOUT.stage(cell.name, "pretrain", "models") + "/seed0.safetensors")
        history = pl.read_parquet(LAYOUT.stage(cell.name, "pretrain", "history.parquet"))
        assert history["epoch"].n_unique() == epochs
        assert list(history.schema.values()) == [pl.Int64, pl.Int64, pl.String, pl.Float64]
    seed_everything(0)
    initial = build_method(cell).state_dict()
    assert all(torch.equal(weights[0][k], w) for k, w in initial.items())
    assert not all(torch.equal(weights[1][k], w) for k, w in initial.items())


def test_the_method_refuses_data_before_the_first_step(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = make()
    constant = torch.ones(1)

    def load(*args: Any) -> dict[str, Any]:
        tables = {split: load_split(paths.prepared(NAME, split)) for split in paths.SPLITS}
        for table in tables.values():
            table.inputs["weak"] = constant.expand_as(table.inputs["weak"])
        return tables

    monkeypatch.setattr("mmcontrast.training.cell.load_whole", load)
    steps: list[int] = []
    with pytest.raises(TrainingError, match="modality 'weak' is the same in all 48 training rows"):
        run_stage(cell, "pretrain", LAYOUT, lambda seed, epoch, epochs, terms: steps.append(epoch))
    assert steps == []


def test_a_finetuned_cell_without_a_classifier_is_scored_by_its_last_embeddings(checkout: Path) -> None:
    dataset = GRID.cell(NAME, "comm", "fine_tuned")
    make()
    stage = {"epochs": 2, "batch_size": 16}
    cell = dataset.model_copy(
        update={
            "pretrain": dataset.pretrain and dataset.pretrain.model_copy(update=stage),
            "finetune": dataset.finetune and dataset.finetune.model_copy(update=stage),
            "seeds": [0, 1],
            "engine": dataset.engine.model_copy(update={"backend": "torch"}),
        }
    )
    for name in cell.stages:
        run_stage(cell, name, LAYOUT)
    folder = Path(LAYOUT.stage(cell.name, "finetune"))
    assert len(pl.read_parquet(folder / "predictions.parquet")) == 0
    tuned, before = (
        pl.read_parquet(LAYOUT.stage(cell.name, name, "embeddings.parquet")) for name in ("finetune", "pretrain")
    )
    others = [c for c in tuned.columns if not c.startswith("embedding")]
    assert tuned.select(others).equals(before.select(others))
    assert not tuned.equals(before)
    scored = Path(LAYOUT.scored(cell.name, cell.last_stage, cell.scored_by))
    assert scored == folder / "embeddings.parquet"
    out = [checkout / f"{part}.parquet" for part in ("metrics", "curves", "intervals")]
    evaluate_cell(cell, scored, *out)
    metrics = pl.read_parquet(out[0])
    assert set(metrics["protocol"]) == {"selected"}
    assert set(metrics["epoch"]) == {1}
