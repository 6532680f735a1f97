"""The one results table that every table and figure is a view of, and its extracts for DVC."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from mmcontrast.config import CellRef, Grid
from mmcontrast.data.files import replacing, write_json
from mmcontrast.errors import DataError
from mmcontrast.evaluation.evaluate import INTERVALS_SCHEMA, write_frame
from mmcontrast.evaluation.frames import read_frame
from mmcontrast.evaluation.protocols import CURVES_SCHEMA, METRICS_SCHEMA
from mmcontrast.paths import Layout
from mmcontrast.report.outputs import results_outputs
from mmcontrast.report.summary import CELL, summarise

RESULTS_COLUMNS = ("experiment", "dataset", "method", "variant", "seed", "protocol", "split", "metric", "value", "n")


def write_results(grid: Grid, layout: Layout) -> None:
    """Write results.parquet, intervals.parquet, metrics.json, plots/scores.csv and plots/curves.csv under reports/.

    Raises:
        DataError: a cell has not been evaluated, or with other seeds than the suite's.
    """
    out = {key: grid.root / path for key, path in results_outputs(layout).items()}
    results = collect(grid, layout)
    write_frame(results, out["results"])
    write_frame(collect_intervals(grid, layout), out["intervals"])
    summary = (
        summarise(results).filter(protocol="selected").unique([*CELL, "metric"], keep="first", maintain_order=True)
    )
    write_json(out["metrics"], headline_metrics(summary))
    _write_csv(plotted_scores(grid, summary), out["scores"])
    _write_csv(plotted_curves(grid, layout), out["curves"])


def collect(grid: Grid, layout: Layout) -> pl.DataFrame:
    """Scores of every cell of every active experiment (RESULTS_COLUMNS); a cell of two experiments is there twice.

    Raises:
        DataError: see `write_results`.
    """
    parts = []
    for experiment in grid.active_experiments:
        for dataset, ref in grid.experiment_cells(experiment):
            name = cell_name(dataset, ref)
            part = read_table(grid.root / layout.metrics(name), METRICS_SCHEMA, f"mmcontrast evaluate {name}")
            seeds = sorted(part["seed"].unique().to_list())
            if seeds != sorted(grid.seeds_of(dataset)):
                raise DataError(
                    f"{layout.metrics(name)}: seeds {seeds}, and the suite '{grid.suite_name}' has "
                    f"{sorted(grid.seeds_of(dataset))}; train and evaluate {name} again"
                )
            parts.append(
                _labelled(part, experiment=experiment, dataset=dataset, method=ref.method, variant=ref.variant)
            )
    return pl.concat(parts).select(RESULTS_COLUMNS)


def collect_intervals(grid: Grid, layout: Layout) -> pl.DataFrame:
    """Intervals over seeds and test cases of every cell, once."""
    parts = []
    for name, cell in grid.cells.items():
        part = read_table(grid.root / layout.intervals(name), INTERVALS_SCHEMA, f"mmcontrast evaluate {name}")
        parts.append(_labelled(part, dataset=cell.dataset, method=cell.method, variant=cell.variant))
    return pl.concat(parts)


def read_table(path: Path, schema: dict[str, Any], command: str) -> pl.DataFrame:
    """A Parquet file of known columns.

    Raises:
        DataError: it is missing, damaged or has other columns; says which command writes it.
    """
    try:
        return read_frame(path, schema, f"run `{command}` again")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run `{command}` first") from None


def read_results(grid: Grid, layout: Layout) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The results table, and the intervals over seeds and test cases.

    Raises:
        DataError: they have not been written.
    """
    out = results_outputs(layout)
    command = "mmcontrast report results"
    return (
        read_table(grid.root / out["results"], dict.fromkeys(RESULTS_COLUMNS), command),
        read_table(grid.root / out["intervals"], INTERVALS_SCHEMA, command),
    )


def cell_name(dataset: str, ref: CellRef) -> str:
    """dataset/method/variant."""
    return f"{dataset}/{ref.method}/{ref.variant}"


def _labelled(frame: pl.DataFrame, **constants: str) -> pl.DataFrame:
    return frame.select(*(pl.lit(value).alias(key) for key, value in constants.items()), pl.all())


def headline_metrics(summary: pl.DataFrame) -> dict[str, Any]:
    """dataset -> method -> variant -> metric -> mean, low, high of the selected epoch's test score, in points."""
    out: dict[str, Any] = {}
    for row in summary.iter_rows(named=True):
        cell = out.setdefault(row["dataset"], {}).setdefault(row["method"], {}).setdefault(row["variant"], {})
        cell[row["metric"]] = {k: round(100 * row[k], 2) for k in ("mean", "low", "high") if row[k] == row[k]}
    return out


def plotted_scores(grid: Grid, summary: pl.DataFrame) -> pl.DataFrame:
    """The selecting metric of every cell, in points."""
    rows = []
    for row in summary.iter_rows(named=True):
        if row["metric"] == grid.datasets[row["dataset"]].metrics[0]:
            name = "/".join(row[c] for c in CELL)
            rows.append((name, row["metric"], *(round(100 * row[k], 2) for k in ("mean", "low", "high"))))
    return pl.DataFrame(rows, schema=["cell", "metric", "value", "low", "high"], orient="row")


def plotted_curves(grid: Grid, layout: Layout) -> pl.DataFrame:
    """Mean over seeds of the selecting metric on validation, by epoch, in points."""
    return pl.concat(_curves(grid, layout))


def _curves(grid: Grid, layout: Layout) -> Iterator[pl.DataFrame]:
    for name, cell in grid.cells.items():
        frame = read_table(grid.root / layout.curves(name), CURVES_SCHEMA, f"mmcontrast evaluate {name}")
        yield (
            frame.filter(split="val", metric=cell.metrics[0])
            .group_by("epoch")
            .agg((pl.col("value").mean() * 100).round(2))
            .sort("epoch")
            .select(pl.lit(name).alias("cell"), pl.lit(cell.metrics[0]).alias("metric"), "epoch", "value")
        )


def _write_csv(frame: pl.DataFrame, path: Path) -> None:
    with replacing(path) as temp:
        temp.write_text(frame.write_csv(), encoding="utf-8")
