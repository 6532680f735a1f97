"""The table of an experiment, built from the results: one block a dataset and metric."""

from __future__ import annotations

import polars as pl

from mmcontrast.config import CellRef, Grid, Published
from mmcontrast.evaluation.statistics import Interval
from mmcontrast.paths import Layout
from mmcontrast.report.outputs import experiment_datasets, own_cells
from mmcontrast.report.results import cell_name
from mmcontrast.report.summary import across_datasets, differences, lookup, percent, summarise
from mmcontrast.report.tables.contrasts import contrast_blocks, contrast_findings, contrast_notes
from mmcontrast.report.tables.costs import COST_NOTE, cost_block, read_costs
from mmcontrast.report.tables.formats import Block, Column, Row, Table, Value
from mmcontrast.report.tables.information import information_blocks
from mmcontrast.report.tables.matrix import build_matrix, matrix_blocks, matrix_findings, matrix_notes
from mmcontrast.report.text.notes import findings, lost_notes, not_run_notes, overrides_note, table_notes
from mmcontrast.report.text.wording import (
    PROBE_DEFINITION,
    PROTOCOL_TITLES,
    cell_label,
    find_cell,
    metric_title,
    reported_metrics,
)

CASES_TITLE = "Selected, over seeds and test cases"
NO_VALIDATION = "no validation split"


def build_table(
    grid: Grid, results: pl.DataFrame, intervals: pl.DataFrame, experiment: str, layout: Layout | None = None
) -> Table:
    """The experiment's table.

    Args:
        layout: where cost records are, of an experiment that shows costs; without it the table has none.

    Kind `table`: published rows first, then every cell of ours, with all three protocols. Kind `ablation`: every cell
    of ours, selected epoch. Both: the paired difference to the experiment's reference, where it names one. Kind
    `matrix`: see `report.matrix`.
    """
    spec = grid.experiments[experiment]
    if spec.kind == "matrix":
        return _matrix_table(grid, results, experiment, layout)
    summary = summarise(results.filter(experiment=experiment))
    datasets = experiment_datasets(grid, experiment)
    blocks = contrast_blocks(grid, results, experiment) + information_blocks(grid, results, experiment)
    blocks += [
        _block(grid, results, summary, intervals, experiment, dataset, metric)
        for dataset in datasets
        for metric in reported_metrics(grid.datasets[dataset], spec.views)
    ]
    # arms differ in what they are asked, so a mean over them would mean nothing
    averaged = "own" in spec.views and spec.information is None
    together = _across_block(grid, results, experiment, datasets) if averaged else Block("", [], [], {})
    return Table(
        name=experiment,
        title=spec.title,
        caption=spec.caption.strip(),
        blocks=blocks + ([together] if together.rows else []),
        findings=contrast_findings(grid, results, experiment)
        + (findings(grid, results, summary, intervals, experiment) if "own" in spec.views else []),
        notes=contrast_notes(grid, experiment)
        + table_notes(grid, summary, experiment, together.title if together.rows else None),
    )


def _matrix_table(grid: Grid, results: pl.DataFrame, experiment: str, layout: Layout | None) -> Table:
    spec, matrix = grid.experiments[experiment], build_matrix(grid, results, experiment)
    blocks, notes = matrix_blocks(matrix), matrix_notes(grid, matrix)
    if layout is not None and "cost" in (spec.figures or []):
        blocks.append(cost_block(matrix, read_costs(grid, layout, matrix)))
        notes.append(COST_NOTE)
    probe = f"Scores: {PROBE_DEFINITION}."
    recipes = dict.fromkeys(grid.cell(d, c.method, c.variant).recipe for d, c in grid.experiment_cells(experiment))
    shared = [" ".join(grid.recipes[b].description.split()) for b in recipes if b is not None]
    return Table(
        name=experiment,
        title=spec.title,
        caption=spec.caption.strip(),
        blocks=blocks,
        findings=overrides_note(grid) or matrix_findings(matrix),
        notes=[*lost_notes(grid, experiment), *shared, probe, *notes, *not_run_notes(grid, experiment)],
    )


def _columns(grid: Grid, summary: pl.DataFrame, experiment: str) -> list[Column]:
    """Columns that any row can fill: a paper without numbers has none, and a probe no protocol but `selected`."""
    spec, protocols = grid.experiments[experiment], set(summary["protocol"])
    columns = [
        Column("selected", PROTOCOL_TITLES["selected"], "score"),
        Column("cases", CASES_TITLE, "interval"),
    ]
    if spec.kind == "table":
        if spec.published and spec.information is None:
            columns.insert(0, Column("published", "Published", "published"))
        for protocol in ("last", "optimistic"):
            if protocol in protocols:
                title = PROTOCOL_TITLES[protocol]
                columns.append(Column(protocol, title, "score", optimistic=protocol == "optimistic"))
    if spec.reference is not None:
        columns += [
            Column("difference", f"Selected, difference to {_reference_label(grid, experiment)}", "difference"),
            Column("p", "p (Holm)", "p"),
        ]
    return [*columns, Column("seeds", "Seeds", "count")]


def _reference_label(grid: Grid, experiment: str) -> str:
    reference = grid.experiments[experiment].reference
    if reference is None:
        return ""
    return cell_label(grid, find_cell(grid, experiment, reference.method, reference.variant) or reference)


def _block(
    grid: Grid,
    results: pl.DataFrame,
    summary: pl.DataFrame,
    intervals: pl.DataFrame,
    experiment: str,
    dataset: str,
    metric: str,
) -> Block:
    spec = grid.experiments[experiment]
    printed = {_cell_of(p): p for p in spec.published if p.dataset == dataset and metric in p.values}
    rows, on_it = [], grid.cells_on(experiment, dataset)
    if spec.kind == "table":
        cells = {(c.method, c.variant) for c in on_it}
        rows = [Row(p.row, {"published": _published(p, metric)}) for key, p in printed.items() if key not in cells]
    compared = differences(results, experiment, dataset, metric, on_it, spec.reference) if spec.reference else None
    for ref in grid.cells_on(experiment, dataset, with_lost=True):
        name = cell_name(dataset, ref)
        if ref in on_it:
            values = _scores(summary, intervals, dataset, ref, metric)
        else:
            values = {"selected": Value(word=grid.lost[name].partition(":")[0])}
        if (ref.method, ref.variant) in printed:
            values["published"] = _published(printed[ref.method, ref.variant], metric)
        if spec.reference and compared is not None and ref in on_it:
            values |= _difference(compared, ref, spec.reference)
        own = ref in own_cells(grid, experiment)[:1]
        rows.append(Row(cell_label(grid, ref), values, name if ref in on_it else None, own))
    data = grid.datasets[dataset]
    title = f"{data.title}: {metric_title(metric, data)} (%)"
    return Block(title, _columns(grid, summary, experiment), rows, {"dataset": dataset, "metric": metric})


def _cell_of(published: Published) -> tuple[str, str]:
    """Rows without a method of ours are told apart by their name."""
    return (published.method, published.variant) if published.method else ("", published.row)


def _published(published: Published, metric: str) -> Value:
    return Value(published.values[metric], spread=published.spread.get(metric))


def _value(found: Interval | None) -> Value:
    return Value(*percent(found)) if found else Value()


def _scores(
    summary: pl.DataFrame, intervals: pl.DataFrame, dataset: str, ref: CellRef, metric: str
) -> dict[str, Value]:
    values = {p: _value(lookup(summary, dataset, ref, p, metric)) for p in PROTOCOL_TITLES}
    values["cases"] = _value(lookup(intervals, dataset, ref, "selected", metric))
    if values["selected"].mean is None and values["last"].mean is not None:
        values["selected"] = Value(word=NO_VALIDATION)
    seeds = summary.filter(dataset=dataset, method=ref.method, variant=ref.variant)["n_seeds"]
    return values | {"seeds": Value(float(seeds[0]))}


def _difference(compared: pl.DataFrame, ref: CellRef, reference: CellRef) -> dict[str, Value]:
    if (ref.method, ref.variant) == (reference.method, reference.variant):
        return {"difference": Value(word="reference")}
    row = compared.filter(method=ref.method, variant=ref.variant)
    if not len(row):
        return {}
    mean, low, high, p = row.select("mean", "low", "high", "p_holm").row(0)
    return {"difference": Value(*percent((mean, low, high))), "p": Value(p)}


def _across_block(grid: Grid, results: pl.DataFrame, experiment: str, datasets: list[str]) -> Block:
    frame = across_datasets(grid, results, experiment, datasets)
    rows = []
    for ref in grid.experiments[experiment].cells:
        row = frame.filter(method=ref.method, variant=ref.variant).select("mean", "low", "high")
        if len(row):
            values = {"iqm": Value(*percent(row.row(0)))}
            rows.append(Row(cell_label(grid, ref), values, own=ref in own_cells(grid, experiment)[:1]))
    if not rows:
        return Block("", [], [])
    metric = grid.datasets[datasets[0]].metrics[0]
    titles = ", ".join(grid.datasets[d].title for d in datasets)
    title = f"All datasets ({titles}): {metric_title(metric)} (%)"
    column = Column("iqm", "Ours, selected: interquartile mean", "score")
    return Block(title, [column], rows, {"dataset": "all", "metric": metric})
