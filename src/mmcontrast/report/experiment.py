"""The table and the figures of one experiment."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
from matplotlib.figure import Figure

from mmcontrast.config import CellRef, Grid
from mmcontrast.config.experiments import OVERALL
from mmcontrast.data.files import replacing
from mmcontrast.errors import ConfigError, nearest
from mmcontrast.evaluation.observations import COLUMNS
from mmcontrast.evaluation.protocols import CURVES_SCHEMA, METRICS_SCHEMA
from mmcontrast.paths import FIGURE_FORMATS, Layout
from mmcontrast.report.figures.contrasts import contrast_chart
from mmcontrast.report.figures.curves import training_curves
from mmcontrast.report.figures.information import information_chart
from mmcontrast.report.figures.matrix import cost_chart, matrix_chart
from mmcontrast.report.figures.projection import embedding_figure
from mmcontrast.report.figures.retrieval import Retrieved, neighbours, observation_sheet, retrieved, similarities
from mmcontrast.report.figures.scores import Data, difference_chart, score_chart
from mmcontrast.report.figures.style import house_style, save
from mmcontrast.report.figures.sweep import sweep_chart
from mmcontrast.report.figures.tuple_infonce import FIGURES, Sampling
from mmcontrast.report.information_lines import information_lines
from mmcontrast.report.outputs import NARROW, FigureSpec, curve_cells, figures, projected_cells
from mmcontrast.report.panels import panels_chart
from mmcontrast.report.results import cell_name, read_results, read_table
from mmcontrast.report.tables.build import build_table
from mmcontrast.report.tables.costs import read_costs
from mmcontrast.report.tables.formats import Table, to_csv, to_latex, to_markdown
from mmcontrast.report.tables.matrix import build_matrix

RENDERERS: dict[str, Callable[[Table], str]] = {"md": to_markdown, "tex": to_latex, "csv": to_csv}
HISTORY_COLUMNS = dict.fromkeys(("seed", "epoch", "name", "value"))
OBSERVATION_COLUMNS = dict.fromkeys(COLUMNS)
EMBEDDING_COLUMNS = dict.fromkeys(("seed", "split", "id", "label", "embedding"))


def write_experiment(grid: Grid, layout: Layout, experiment: str) -> None:
    """Write every file of `outputs.experiment_outputs`.

    Raises:
        ConfigError: the selection runs no such experiment.
        DataError: the results, or a file of one of its cells, are missing.
    """
    if experiment not in grid.active_experiments:
        raise ConfigError(
            f"no experiment '{experiment}' in this selection; {nearest(experiment, grid.active_experiments)}"
        )
    write_table(grid, layout, experiment)
    write_figures(grid, layout, experiment)


def write_table(grid: Grid, layout: Layout, experiment: str) -> None:
    """The experiment's table as md, tex and csv."""
    table = build_table(grid, *read_results(grid, layout), experiment, layout)
    for suffix, render in RENDERERS.items():
        with replacing(grid.root / layout.table(experiment, suffix)) as temp:
            temp.write_text(render(table), encoding="utf-8")


def write_figures(grid: Grid, layout: Layout, experiment: str) -> None:
    """The experiment's figures in every format, and in a narrow layout."""
    results, intervals = read_results(grid, layout)
    with house_style():
        for spec in figures(grid, experiment):
            for narrow in (False, True):
                figure = draw(grid, layout, spec, results, intervals, narrow)
                suffixes = (NARROW,) if narrow else FIGURE_FORMATS
                save(figure, [grid.root / layout.figure(spec.name, suffix) for suffix in suffixes])


def draw(
    grid: Grid, layout: Layout, spec: FigureSpec, results: pl.DataFrame, intervals: pl.DataFrame, narrow: bool
) -> Figure:
    """One figure, in the wide or the narrow layout."""
    if spec.kind == "contrasts":
        return contrast_chart(grid, results, spec.experiment, narrow)
    if spec.kind == "panels":
        return panels_chart(grid, spec.experiment, results, intervals, narrow)
    if spec.kind in OVERALL:
        matrix = build_matrix(grid, results, spec.experiment)
        if spec.kind == "cost":
            return cost_chart(grid, matrix, read_costs(grid, layout, matrix), narrow)
        return matrix_chart(grid, matrix, narrow)
    if spec.kind == "information":
        chart = information_lines if grid.experiments[spec.experiment].sweep else information_chart
        return chart(grid, results, spec.experiment, spec.dataset, narrow)
    if spec.kind in FIGURES:

        def history(ref: CellRef) -> pl.DataFrame:
            return _stage_file(grid, layout, spec.dataset, ref, "history.parquet", HISTORY_COLUMNS)

        return FIGURES[spec.kind](Sampling(grid, spec.experiment, spec.dataset, results, history), narrow)
    if spec.kind in ("scores", "differences"):
        data = Data.of(grid, spec.experiment, spec.dataset, results, intervals)
        return (score_chart if spec.kind == "scores" else difference_chart)(data, narrow)
    if spec.kind == "projection":
        cells = projected_cells(grid, spec.experiment, spec.dataset)
        found = {c: _stage_file(grid, layout, spec.dataset, c, "embeddings.parquet", EMBEDDING_COLUMNS) for c in cells}
        return embedding_figure(grid, spec.dataset, cells, found, narrow)
    if spec.kind == "sweep":
        return sweep_chart(Data.of(grid, spec.experiment, spec.dataset, results, intervals), narrow)
    if spec.kind == "observations":
        return observation_sheet(grid, spec.dataset, narrow)
    if spec.kind in ("neighbours", "similarities"):
        shown = projected_cells(grid, spec.experiment, spec.dataset)
        if spec.kind == "neighbours":
            return neighbours(_retrieved(grid, layout, spec.dataset, shown[-1]), narrow)
        return similarities(grid, {c: _retrieved(grid, layout, spec.dataset, c) for c in shown}, narrow)
    cells = curve_cells(grid, spec.experiment, spec.dataset)
    histories = {c: _stage_file(grid, layout, spec.dataset, c, "history.parquet", HISTORY_COLUMNS) for c in cells}
    curves = {}
    for c in cells:
        name = cell_name(spec.dataset, c)
        curves[c] = read_table(grid.root / layout.curves(name), CURVES_SCHEMA, f"mmcontrast evaluate {name}")
    return training_curves(grid, spec.experiment, spec.dataset, cells, curves, histories, narrow)


def _retrieved(grid: Grid, layout: Layout, dataset: str, ref: CellRef) -> Retrieved:
    name = cell_name(dataset, ref)
    metrics = read_table(grid.root / layout.metrics(name), METRICS_SCHEMA, f"mmcontrast evaluate {name}")
    embeddings = _stage_file(grid, layout, dataset, ref, "embeddings.parquet", OBSERVATION_COLUMNS)
    return retrieved(grid, dataset, embeddings, metrics)


def _stage_file(
    grid: Grid, layout: Layout, dataset: str, ref: CellRef, file: str, columns: dict[str, None]
) -> pl.DataFrame:
    name, stage = cell_name(dataset, ref), grid.cell(dataset, ref.method, ref.variant).last_stage
    return read_table(grid.root / layout.stage(name, stage, file), columns, f"mmcontrast {stage} {name}")
