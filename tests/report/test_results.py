"""The results table holds what the cells' evaluation wrote, and its extracts hold what the table says."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mmcontrast.config import Grid
from mmcontrast.errors import DataError
from mmcontrast.paths import Layout
from mmcontrast.report.evidence import Evidence
from mmcontrast.report.results import RESULTS_COLUMNS, write_results
from tests.report.made_up_study import Made

CELL = ["dataset", "method", "variant"]


def test_columns_are_those_everyone_relies_on(evaluated: Made) -> None:
    results = Evidence.read(evaluated.grid, evaluated.layout).results
    assert tuple(results.columns) == RESULTS_COLUMNS


def test_rows_are_the_cells_metrics_once_an_experiment(evaluated: Made) -> None:
    results = Evidence.read(evaluated.grid, evaluated.layout).results
    grid = evaluated.grid
    groups = results.group_by(["experiment", *CELL], maintain_order=True)
    found = {(str(e), f"{d}/{m}/{v}"): part for (e, d, m, v), part in groups}
    expected = [
        (e, f"{d}/{ref.method}/{ref.variant}") for e in grid.active_experiments for d, ref in grid.experiment_cells(e)
    ]
    assert list(found) == list(dict.fromkeys(expected))
    for (_, cell), part in found.items():
        columns = ["seed", "protocol", "split", "metric", "value", "n"]
        assert part.select(columns).equals(
            pl.read_parquet(evaluated.path(evaluated.layout.metrics(cell))).select(columns)
        )


def test_intervals_of_every_cell_are_there_once(evaluated: Made) -> None:
    intervals = Evidence.read(evaluated.grid, evaluated.layout).intervals
    assert set(intervals.select(CELL).unique().rows()) == {tuple(c.split("/")) for c in evaluated.grid.cells}
    assert not intervals.select(*CELL, "protocol", "split", "metric").is_duplicated().any()


def test_metrics_json_is_the_mean_of_the_selected_test_score(evaluated: Made) -> None:
    results = Evidence.read(evaluated.grid, evaluated.layout).results
    metrics = json.loads(evaluated.path(evaluated.layout.report("metrics.json")).read_text())
    seen = 0
    for key, part in results.filter(protocol="selected", split="test").group_by([*CELL, "metric"]):
        dataset, method, variant, metric = map(str, key)
        entry = metrics[dataset][method][variant][metric]
        values = part.unique("seed")["value"].to_numpy()
        assert entry["mean"] == pytest.approx(100 * np.mean(values), abs=0.0051)
        assert entry["low"] <= entry["mean"] <= entry["high"]
        assert round(entry["mean"], 2) == entry["mean"]
        seen += 1
    assert seen == sum(len(entry) for d in metrics.values() for m in d.values() for entry in m.values())
    assert "full_train" not in metrics["rosmap"]["m3col"], "no validation split, so no headline"


def test_scores_csv_holds_the_selecting_metric_of_every_scored_cell(evaluated: Made) -> None:
    scores = pl.read_csv(evaluated.path(evaluated.layout.report("plots/scores.csv")))
    metrics = json.loads(evaluated.path(evaluated.layout.report("metrics.json")).read_text())
    expected = {
        f"{d}/{m}/{v}": entry["acc"]["mean"]
        for d, methods in metrics.items()
        for m, variants in methods.items()
        for v, entry in variants.items()
    }
    assert dict(zip(scores["cell"], scores["value"], strict=True)) == expected


def test_curves_csv_is_the_mean_validation_score_by_epoch(evaluated: Made) -> None:
    curves = pl.read_csv(evaluated.path(evaluated.layout.report("plots/curves.csv")))
    for (name,), part in curves.group_by("cell"):
        own = pl.read_parquet(evaluated.path(evaluated.layout.curves(str(name)))).filter(split="val", metric="acc")
        for epoch, value in part.select("epoch", "value").rows():
            assert value == pytest.approx(100 * own.filter(epoch=epoch)["value"].mean(), abs=0.0051)
        assert set(part["epoch"]) == set(own["epoch"])


def test_equal_inputs_give_equal_bytes(evaluated: Made) -> None:
    files = [
        p for p in evaluated.path(evaluated.layout.report()).rglob("*") if p.suffix in (".parquet", ".json", ".csv")
    ]
    before = {p: p.read_bytes() for p in files}
    write_results(evaluated.grid, evaluated.layout)
    assert before == {p: p.read_bytes() for p in files}


@pytest.fixture
def copy(evaluated: Made, tmp_path: Path) -> Made:
    """params/ and the scores of every cell, to break."""
    shutil.copytree(evaluated.path("params"), tmp_path / "params")
    for cell in evaluated.grid.cells:
        source = evaluated.path(evaluated.layout.metrics(cell))
        target = tmp_path / evaluated.layout.metrics(cell)
        target.parent.mkdir(parents=True)
        shutil.copy(source, target)
    return Made(Grid(tmp_path, "made_up"), Layout("made_up"))


def test_a_cell_that_was_not_evaluated_is_named_with_the_command(copy: Made) -> None:
    copy.path(copy.layout.metrics("rosmap/m3col/base")).unlink()
    with pytest.raises(DataError, match=re.escape("run `mmcontrast evaluate rosmap/m3col/base --suite made_up` first")):
        write_results(copy.grid, copy.layout)


def test_scores_of_other_seeds_than_the_suites_are_refused(copy: Made) -> None:
    path = copy.path(copy.layout.metrics("rosmap/m3col/base"))
    pl.read_parquet(path).filter(pl.col("seed") != 3).write_parquet(path)
    with pytest.raises(DataError, match=r"seeds \[0, 1, 2, 4\].*has \[0, 1, 2, 3, 4\]; train and evaluate"):
        write_results(copy.grid, copy.layout)


def test_a_file_without_a_column_is_refused(copy: Made) -> None:
    path = copy.path(copy.layout.metrics("rosmap/m3col/base"))
    pl.read_parquet(path).drop("n").write_parquet(path)
    again = "run `mmcontrast evaluate rosmap/m3col/base --suite made_up` again"
    with pytest.raises(DataError, match=rf"no column n; expected .*; {again}"):
        write_results(copy.grid, copy.layout)


def test_results_that_were_not_written_name_the_command(copy: Made) -> None:
    with pytest.raises(DataError, match="run `mmcontrast report results --suite made_up` first"):
        Evidence.read(copy.grid, copy.layout)
