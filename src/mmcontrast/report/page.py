"""reports/index.html: the whole report as one file that needs nothing else, summary first."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mmcontrast.config import Grid, Information
from mmcontrast.data.files import replacing
from mmcontrast.errors import DataError
from mmcontrast.evaluation.statistics import Difference, Interval
from mmcontrast.paths import FIGURE_FORMATS, TABLE_FORMATS, Layout
from mmcontrast.report.captions import figure_caption
from mmcontrast.report.cards import write_cards
from mmcontrast.report.outputs import ALL, NARROW, FigureSpec, active_arms, experiment_datasets, figures
from mmcontrast.report.provenance import anchor, cell_records, code_version, environment, raw_checksum, read_datasheets
from mmcontrast.report.results import cell_name, read_results
from mmcontrast.report.summary import percent, summarise
from mmcontrast.report.tables.build import build_table
from mmcontrast.report.tables.formats import text_of
from mmcontrast.report.tables.information import chances, held_against
from mmcontrast.report.tables.published import paper_parts, studies
from mmcontrast.report.text.conclusions import (
    Comparison,
    Verdict,
    compare,
    comparison_sentences,
    few_seeds,
    n_test_cases,
    optimism,
)
from mmcontrast.report.text.notes import overrides_note
from mmcontrast.report.text.wording import (
    LEVEL_NAME,
    PROBE_DEFINITION,
    PROTOCOL_DEFINITIONS,
    PROTOCOL_TITLES,
    cell_label,
    count,
    estimate,
    metric_title,
    p_value,
    points,
    reported_metrics,
)

TEMPLATES = Path(__file__).parent / "templates"
VERDICTS = {"better": "better", "worse": "worse", "undecided": "cannot be told apart", "unjudged": "too few seeds"}


def write_page(grid: Grid, layout: Layout) -> None:
    """Write reports/index.html and the model cards it links, reports/models/.

    Of a study `without` some cells it writes what there is of it.

    Raises:
        DataError: the results, a figure, a data sheet or a cost record are missing.
    """
    results, intervals = read_results(grid, layout)
    summary = summarise(results)
    sheets = read_datasheets(grid)
    environment_ = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment_.globals.update(text_of=text_of, anchor=anchor, points=points)
    records, code = cell_records(grid, layout, sheets), code_version(grid.root)
    write_cards(grid, layout, results, intervals, sheets, records, code, environment_)
    html = environment_.get_template("index.html").render(
        suite=grid.suite_name,
        description=grid.suite.description,
        warning=overrides_note(grid),
        overview=_overview(grid),
        level=LEVEL_NAME,
        bibliography=grid.papers,
        papers=paper_parts(grid, summary, intervals),
        studies=studies(grid),
        lost=grid.lost,
        comparisons=_comparisons(grid, results, summary, intervals),
        optimism=_optimism(grid, summary),
        protocols=_protocols(grid, summary),
        experiments={e: _experiment(grid, layout, results, summary, intervals, e) for e in grid.active_experiments},
        sheets=sheets,
        cells=records,
        checksums={d: raw_checksum(sheet) for d, sheet in sheets.items()},
        environment={"mmcontrast": code} | environment(),
    )
    with replacing(grid.root / layout.report("index.html")) as temp:
        temp.write_text(html, encoding="utf-8")
    if not grid.lost:
        shutil.rmtree(grid.root / layout.partial().report(), ignore_errors=True)


def _overview(grid: Grid) -> str:
    cells = grid.cells.values()
    datasets = ", ".join(grid.datasets[d].title for d in dict.fromkeys(c.dataset for c in cells))
    numbers = sorted({len(c.seeds) for c in cells})
    seeds = count(numbers[0], "seed") if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]} seeds"
    methods = ", ".join(grid.methods[m].title for m in dict.fromkeys(c.method for c in cells))
    return (
        f"{count(len(grid.active_experiments), 'experiment')}, {count(len(cells), 'cell')} (a dataset, a method and a "
        f"variant each), {seeds} a cell. Datasets: {datasets}. Methods: {methods}."
    )


def _protocols(grid: Grid, summary: pl.DataFrame) -> list[tuple[str, str]]:
    """What the columns of the tables mean, as far as there are such."""
    shown = set(summary["protocol"])
    out = []
    scored_by = {cell.scored_by for cell in grid.cells.values()}
    if scored_by - {"probe"}:
        out = [(PROTOCOL_TITLES[p], PROTOCOL_DEFINITIONS[p]) for p in PROTOCOL_TITLES if p in shown]
    if "probe" in scored_by:
        out.append(("Cells without a classifier", f"{PROBE_DEFINITION}."))
    return out


def _comparisons(
    grid: Grid, results: pl.DataFrame, summary: pl.DataFrame, intervals: pl.DataFrame
) -> list[dict[str, Any]]:
    """A statement a dataset, on its selecting metric, and a line a metric; nothing where no conclusion is allowed."""
    out = []
    for experiment in grid.active_experiments:
        if grid.experiments[experiment].kind != "table" or grid.suite.overrides.given():
            continue
        if (asked := grid.experiments[experiment].information) is not None:
            out += _kept(grid, results, experiment, asked)
            continue
        own = summary.filter(experiment=experiment)
        for dataset in experiment_datasets(grid, experiment):
            found = [
                c
                for metric in reported_metrics(grid.datasets[dataset], grid.experiments[experiment].views)
                if (c := compare(grid, results, own, intervals, experiment, dataset, metric))
            ]
            if found:
                lines = [_comparison_line(grid, c) for c in found]
                first = found[0]
                sentences = comparison_sentences(grid, first)
                out.append(_statement(grid, experiment, dataset, first.label, first.verdict, sentences, lines))
    return out


def _kept(grid: Grid, results: pl.DataFrame, experiment: str, asked: Information) -> list[dict[str, Any]]:
    """A statement for each size of data whose information is asked for, and a line for R, U, S and the control."""
    out = []
    for arms in active_arms(grid, experiment):
        if found := held_against(grid, results, experiment, arms):
            ours, held = found
            label = cell_label(grid, ours.ref)
            chance = chances(grid, asked, arms)
            sentences = ours.sentences(f"{label} on {grid.datasets[arms.unbiased].title}", chance)
            sentences += few_seeds(ours.gain.n)
            lines = [_line(h.what, h.own, h.other, h.name, h.difference, h.p_holm, h.verdict) for h in held]
            out.append(_statement(grid, experiment, arms.unbiased, label, held[-1].verdict, sentences, lines))
    return out


def _statement(
    grid: Grid,
    experiment: str,
    dataset: str,
    label: str,
    verdict: Verdict,
    sentences: list[str],
    lines: list[dict[str, str]],
) -> dict[str, Any]:
    return {
        "experiment": experiment,
        "title": grid.experiments[experiment].title,
        "dataset": grid.datasets[dataset].title,
        "label": label,
        "verdict": verdict,
        "sentences": sentences,
        "lines": lines,
    }


def _comparison_line(grid: Grid, c: Comparison) -> dict[str, str]:
    title = metric_title(c.metric, grid.datasets[c.dataset])
    own, baseline = percent(c.score), percent(c.baseline_score)
    return _line(title, own, baseline, c.baseline, c.difference, c.p_holm, c.verdict)


def _line(
    what: str, own: Interval, other: Interval, name: str, difference: Difference, p_holm: float, verdict: Verdict
) -> dict[str, str]:
    """A line of the comparison by metric. own, other: in percent; difference: as fractions."""
    return {
        "metric": what,
        "own": estimate(*own),
        "baseline": estimate(*other),
        "name": name,
        "difference": estimate(*percent(difference), sign=True),
        "p": p_value(p_holm),
        "verdict": VERDICTS[verdict],
    }


def _optimism(grid: Grid, summary: pl.DataFrame) -> str:
    found = optimism(summary, {d: grid.datasets[d].metrics[0] for d in grid.dataset_names})
    if found is None or grid.suite.overrides.given():
        return ""
    gain, n = found
    return (
        f"Choosing the epoch on the test split instead of on validation would have added {points(gain)} points of the "
        f"first metric on average over {count(n, 'cell')}, without a better model."
    )


def _experiment(
    grid: Grid, layout: Layout, results: pl.DataFrame, summary: pl.DataFrame, intervals: pl.DataFrame, name: str
) -> dict[str, Any]:
    own = summary.filter(experiment=name)
    table = build_table(grid, results, intervals, name, layout)
    drawn = figures(grid, name)
    datasets = experiment_datasets(grid, name)
    return {
        "name": name,
        "table": table,
        "sources": [_source(grid, name, d) for d in datasets],
        "parts": [
            {
                "title": grid.datasets[d].title,
                "figures": [_figure(grid, layout, f, n_test_cases(own, d)) for f in drawn if f.dataset == d],
                "blocks": [b for b in table.blocks if b.keys["dataset"] == d],
            }
            for d in datasets
            if any(f.dataset == d for f in drawn) or any(b.keys["dataset"] == d for b in table.blocks)
        ],
        "together": [b for b in table.blocks if b.keys["dataset"] == ALL],
        "together_figures": [_figure(grid, layout, f, 0) for f in drawn if f.dataset == ALL],
        "table_files": [(suffix, f"tables/{name}.{suffix}") for suffix in TABLE_FORMATS],
    }


def _source(grid: Grid, experiment: str, dataset: str) -> dict[str, Any]:
    """What an experiment's numbers on a dataset come from."""
    return {
        "dataset": dataset,
        "title": grid.datasets[dataset].title,
        "seeds": grid.seeds_of(dataset),
        "cells": [(cell_label(grid, c), cell_name(dataset, c)) for c in grid.cells_on(experiment, dataset)],
    }


def _figure(grid: Grid, layout: Layout, spec: FigureSpec, n_cases: int) -> dict[str, Any]:
    return {
        "caption": figure_caption(grid, spec, n_cases),
        "wide": _inlined(grid.root / layout.figure(spec.name, "svg"), spec.experiment),
        "narrow": _inlined(grid.root / layout.figure(spec.name, NARROW), spec.experiment),
        "files": [(suffix, f"figures/{spec.name}.{suffix}") for suffix in FIGURE_FORMATS],
    }


def _inlined(path: Path, experiment: str) -> str:
    """An SVG as a data URI: as an image of its own, so that ids inside it cannot clash with another figure's."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; run `mmcontrast report {experiment}` first")
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()
