"""A cell's three files, made from one predictions file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mmcontrast.errors import DataError
from mmcontrast.evaluation.columns import CURVES_SCHEMA, INTERVALS_SCHEMA, METRICS_SCHEMA
from mmcontrast.evaluation.evaluate import evaluate_cell
from tests.fresh import loaded


def evaluate(cell, predictions: Path, folder: Path) -> list[Path]:
    paths = [folder / f"{name}.parquet" for name in ("metrics", "curves", "intervals")]
    evaluate_cell(cell, predictions, *paths)
    return paths


def test_files_have_the_columns_everyone_relies_on(make_cell, make_predictions, write, tmp_path) -> None:
    cell = make_cell()
    found = evaluate(cell, write(make_predictions(cell)), tmp_path)
    for path, schema in zip(found, (METRICS_SCHEMA, CURVES_SCHEMA, INTERVALS_SCHEMA), strict=True):
        assert dict(pl.read_parquet_schema(path)) == schema


def test_intervals_hold_the_mean_of_the_metrics(make_cell, make_predictions, write, tmp_path) -> None:
    cell = make_cell(metrics=["acc", "f1", "auc"], classes=["n", "y"])
    metrics, _, intervals = map(pl.read_parquet, evaluate(cell, write(make_predictions(cell)), tmp_path))
    assert len(intervals) == 3 * 3
    for protocol, split, metric, mean, low, high, n_seeds, n_cases, _ in intervals.iter_rows():
        values = metrics.filter(protocol=protocol, split=split, metric=metric)["value"]
        assert mean == pytest.approx(values.mean())
        assert low < mean < high
        assert (n_seeds, n_cases) == (3, 30)


def test_equal_predictions_give_equal_bytes(make_cell, make_predictions, write, tmp_path) -> None:
    cell = make_cell()
    path = write(make_predictions(cell))
    first = [p.read_bytes() for p in evaluate(cell, path, tmp_path / "a")]
    assert first == [p.read_bytes() for p in evaluate(cell, path, tmp_path / "b")]


def test_a_fault_leaves_no_file(make_cell, make_predictions, write, tmp_path) -> None:
    cell = make_cell(seeds=[0, 1, 2, 3])
    path = write(make_predictions(make_cell()))
    with pytest.raises(DataError, match=r"holds seeds \[0, 1, 2\], and the suite lists"):
        evaluate(cell, path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_validation_there_is_no_selected_score(make_cell, make_predictions, write, tmp_path) -> None:
    cell = make_cell(selection={"holdout": 0.0})
    metrics, curves, intervals = map(
        pl.read_parquet, evaluate(cell, write(make_predictions(cell, splits=("test",))), tmp_path)
    )
    for frame in (metrics, intervals):
        assert set(frame["protocol"]) == {"last", "optimistic"}
    assert set(curves["split"]) == {"test"}


def test_evaluation_starts_without_torch() -> None:
    assert not {"torch", "deepspeed", "sklearn", "matplotlib"} & loaded("import mmcontrast.evaluation.evaluate")


def test_bootstrap_ignores_the_order_of_the_rows(make_cell, make_predictions, write, tmp_path) -> None:
    cell = make_cell()
    frame = make_predictions(cell)
    first = pl.read_parquet(evaluate(cell, write(frame), tmp_path / "a")[2])
    again = pl.read_parquet(evaluate(cell, write(frame.reverse()), tmp_path / "b")[2])
    np.testing.assert_array_equal(first["low"], again["low"])
