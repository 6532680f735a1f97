"""A cell whose labels are several at once, or numbers: from training to scores, main target and further tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from mmcontrast.config import CellConfig
from mmcontrast.config.metrics import Target
from mmcontrast.data.loading import Table, held_out, load_whole
from mmcontrast.errors import DataError
from mmcontrast.evaluation.evaluate import evaluate_cell
from mmcontrast.paths import Layout
from mmcontrast.trained import exported_epoch, load_method
from mmcontrast.training import cell as training
from mmcontrast.training.outputs import predict
from tests.grids import grid_of

LAYOUT = Layout("tests")
EPOCHS = 24
WHERE = ("metrics", "curves", "intervals")
TASTE = Target(kind="multilabel", names=["sweet", "sour", "salt"], metrics=["macro_f1", "map", "micro_f1"])
FORCE = Target(kind="regression", names=["newton", "kelvin"], metrics=["mse", "pearson", "mae", "rmse"])
GROUP = Target(kind="classes", names=["a", "b"], metrics=["acc"])
# of another unit and place than what a head gives by itself
UNIT, ZERO = torch.tensor([0.01, 40.0]), torch.tensor([3.0, 5000.0])


def numbers(table: Table) -> Tensor:
    """What a linear map can read of both modalities."""
    return torch.cat([x[:, :2] for x in table.inputs.values()], dim=1)


def labels_of(target: Target, table: Table) -> Tensor:
    x = numbers(table)
    if target.kind == "multilabel":
        return (x[:, :3] > x[:, :3].mean(0)).float()
    return x[:, :2] * UNIT + ZERO if target.kind == "regression" else (x[:, 0] > 0).long()


def make_cell(main: Target, method: str, tasks: dict[str, Target], **stages: Any) -> CellConfig:
    cell = grid_of().cell("synthetic", method)
    stage = cell.finetune or cell.pretrain
    assert stage is not None
    optimizer = stage.optimizer.model_copy(update={"lr": 0.03})
    short = {"epochs": EPOCHS, "eval_every": EPOCHS // 3, "batch_size": 48, "optimizer": optimizer}
    short = stage.model_copy(update=short)
    update = {
        "model": cell.model.model_copy(update={"width": 16, "encoder_hidden": [], "head_hidden": []}),
        "target": main.kind, "classes": main.names, "metrics": main.metrics, "tasks": tasks, "seeds": [3, 5],
        "engine": cell.engine.model_copy(update={"backend": "torch"}), **dict.fromkeys(stages, short),
    }  # fmt: skip
    return cell.model_copy(update=update | {s: None for s in ("pretrain", "finetune") if s not in stages})


@pytest.fixture
def relabelled(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The synthetic set with the labels that a cell asks for."""

    classes = grid_of().datasets["synthetic"].classes

    def plain(cell: CellConfig) -> CellConfig:
        return cell.model_copy(update={"classes": classes, "tasks": {}, "target": "classes"})

    def split(cell: CellConfig, whole: Mapping[str, Table], seed: int) -> dict[str, Table]:
        tasks = {t: target for t, target in cell.targets.items() if t}
        return {
            split: replace(
                table,
                labels=labels_of(cell.targets[""], table),
                tasks={t: labels_of(target, table) for t, target in tasks.items()},
            )
            for split, table in held_out(plain(cell), whole, seed).items()
        }

    monkeypatch.setattr(training, "load_whole", lambda cell, root: load_whole(plain(cell), root))
    monkeypatch.setattr(training, "held_out", split)


def evaluate(cell: CellConfig, folder: Path) -> pl.DataFrame:
    scored = Path(LAYOUT.scored(cell.name, cell.last_stage, cell.scored_by))
    evaluate_cell(cell, scored, *[folder / f"{name}.parquet" for name in WHERE])
    return pl.read_parquet(folder / "metrics.parquet")


def test_a_regression_learns_in_any_unit_and_predicts_in_that_of_the_data(relabelled, tmp_path) -> None:
    cell = make_cell(FORCE, "concat", {}, finetune=True)
    training.run_stage(cell, "finetune", LAYOUT)
    folder = Path(LAYOUT.stage(cell.name, "finetune"))
    predictions = pl.read_parquet(folder / "predictions.parquet")
    assert predictions["label"].dtype == predictions["values"].dtype == pl.Array(pl.Float32, 2)
    last = predictions.filter(epoch=EPOCHS - 1, seed=3, split="test")
    error = np.abs(last["values"].to_numpy() - last["label"].to_numpy()).mean(0)
    assert (error < 0.6 * last["label"].to_numpy().std(0)).all()
    metrics = evaluate(cell, tmp_path)
    assert set(metrics["metric"]) == set(FORCE.metrics)
    assert set(metrics["protocol"]) == {"selected", "last", "optimistic"}
    # of the epochs on validation the one of the lowest error is taken, and on test the optimistic one is the lowest
    curves = pl.read_parquet(tmp_path / "curves.parquet").filter(metric="mse")
    val, test = (curves.filter(split=split, seed=3).sort("epoch") for split in ("val", "test"))
    best = metrics.filter(metric="mse", seed=3, split="test")
    assert best.filter(protocol="selected")["epoch"][0] == val["epoch"][int(val["value"].arg_min())]
    assert best.filter(protocol="optimistic")["value"][0] == test["value"].min()
    assert "cross_entropy" not in set(curves["metric"])


def test_what_a_regression_was_scaled_by_travels_with_its_weights(relabelled) -> None:
    cell = make_cell(FORCE, "concat", {}, finetune=True)
    training.run_stage(cell, "finetune", LAYOUT)
    folder = Path(LAYOUT.stage(cell.name, "finetune"))
    method, tables = (
        load_method(folder / "models/seed3.safetensors"),
        training.held_out(cell, training.load_whole(cell, Path()), 3),
    )
    torch.testing.assert_close(method.target_scale.mean, tables["train"].labels.mean(0))
    torch.testing.assert_close(method.target_scale.spread, tables["train"].labels.std(0, correction=0))
    epoch = exported_epoch(folder / "models/seed3.safetensors")
    stored = pl.read_parquet(folder / "predictions.parquet").filter(seed=3, split="test", epoch=epoch)
    again = predict(method, tables["test"], torch.device("cpu")).numpy()
    np.testing.assert_allclose(stored["values"].to_numpy(), again, rtol=1e-5)


def test_several_labels_are_learned_at_once(relabelled, tmp_path) -> None:
    cell = make_cell(TASTE, "concat", {}, finetune=True)
    training.run_stage(cell, "finetune", LAYOUT)
    predictions = pl.read_parquet(Path(LAYOUT.stage(cell.name, "finetune")) / "predictions.parquet")
    assert predictions["label"].dtype == pl.Array(pl.UInt8, 3)
    metrics = evaluate(cell, tmp_path)
    found = metrics.filter(protocol="selected", split="test")
    assert set(found["metric"]) == set(TASTE.metrics)
    assert found["value"].min() > 0.7
    assert set(pl.read_parquet(tmp_path / "curves.parquet")["metric"]) == {*TASTE.metrics, "cross_entropy"}


@pytest.mark.parametrize("main", [GROUP, TASTE, FORCE], ids=lambda t: t.kind)
def test_a_probe_scores_tasks_of_every_kind(main: Target, relabelled, tmp_path) -> None:
    tasks = {"taste": TASTE, "force": FORCE, "group": GROUP}
    cell = make_cell(main, "m3col", tasks, pretrain=True)
    training.run_stage(cell, "pretrain", LAYOUT)
    embeddings = pl.read_parquet(Path(LAYOUT.stage(cell.name, "pretrain")) / "embeddings.parquet")
    assert embeddings["label_taste"].dtype == pl.Array(pl.UInt8, 3)
    assert embeddings["label_force"].dtype == pl.Array(pl.Float32, 2)
    metrics = evaluate(cell, tmp_path).filter(split="test")
    wanted = [*main.metrics, *(f"{t}/{m}" for t, target in tasks.items() for m in target.metrics)]
    assert list(dict.fromkeys(metrics["metric"])) == wanted
    mean = dict(metrics.group_by("metric").agg(pl.col("value").mean()).iter_rows())
    assert mean["group/acc"] > 0.7
    assert mean["taste/macro_f1"] > 0.6
    assert mean["force/pearson"] > 0.5
    variance = float(((labels := np.stack(embeddings["label_force"].to_numpy())) - labels.mean(0)).__pow__(2).mean())
    assert mean["force/mse"] < variance
    intervals = pl.read_parquet(tmp_path / "intervals.parquet")
    assert intervals.select((pl.col("low") <= pl.col("mean")) & (pl.col("mean") <= pl.col("high"))).to_series().all()


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("label", 2, r"seed 3, test: label: \[2, 2, 2\] of case .*; accepted are 0 to 1"),
        ("probs", 1.5, r"\[1.5, 1.5, 1.5\] are not probabilities"),
        ("label", None, "column label is Int64, expected Array\\(UInt8, shape=\\(3,\\)\\)"),
    ],
)
def test_labels_and_probabilities_that_are_none_are_refused(column, value, says, relabelled, tmp_path) -> None:
    cell = make_cell(TASTE, "concat", {}, finetune=True)
    training.run_stage(cell, "finetune", LAYOUT)
    path = Path(LAYOUT.scored(cell.name, "finetune", "classifier"))
    frame = pl.read_parquet(path)
    if value is None:
        wrong = pl.Series(column, np.zeros(len(frame), dtype=np.int64))
    else:
        wrong = pl.Series(column, np.full((len(frame), 3), value)).cast(frame[column].dtype)
    frame.with_columns(wrong).write_parquet(path)
    with pytest.raises(DataError, match=says):
        evaluate(cell, tmp_path)
