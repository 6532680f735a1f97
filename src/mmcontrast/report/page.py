"""reports/index.html: the whole report as one file that needs nothing else, summary first."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mmcontrast.config import Information, Study
from mmcontrast.data.files import replacing
from mmcontrast.errors import DataError
from mmcontrast.evaluation.statistics import Difference, Interval
from mmcontrast.paths import FIGURE_FORMATS, TABLE_FORMATS, Layout
from mmcontrast.report.captions import figure_caption
from mmcontrast.report.cards import write_cards
from mmcontrast.report.conclusions import (
    Comparison,
    Verdict,
    compare,
    comparison_sentences,
    few_seeds,
    n_test_cases,
    optimism,
)
from mmcontrast.report.information import chances, held_against
from mmcontrast.report.notes import overrides_note
from mmcontrast.report.outputs import ALL, NARROW, FigureSpec, active_arms, experiment_datasets, figures
from mmcontrast.report.papers import paper_parts, studies
from mmcontrast.report.provenance import anchor, cell_records, code_version, environment, raw_checksum, read_datasheets
from mmcontrast.report.results import cell_name, read_results
from mmcontrast.report.summary import percent, summarise
from mmcontrast.report.table import text_of
from mmcontrast.report.tables import build_table
from mmcontrast.report.wording import (
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


def write_page(study: Study, layout: Layout) -> None:
    """Write reports/index.html and the model cards it links, reports/models/.

    Of a study `without` some cells it writes what there is of it.

    Raises:
        DataError: the results, a figure, a data sheet or a cost record are missing.
    """
    results, intervals = read_results(study, layout)
    summary = summarise(results)
    sheets = read_datasheets(study)
    environment_ = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment_.globals.update(text_of=text_of, anchor=anchor, points=points)
    records, code = cell_records(study, layout, sheets), code_version(study.root)
    write_cards(study, layout, results, intervals, sheets, records, code, environment_)
    html = environment_.get_template("index.html").render(
        profile=study.profile_name,
        description=study.profile.description,
        warning=overrides_note(study),
        overview=_overview(study),
        level=LEVEL_NAME,
        bibliography=study.papers,
        papers=paper_parts(study, summary, intervals),
        studies=studies(study),
        lost=study.lost,
        comparisons=_comparisons(study, results, summary, intervals),
        optimism=_optimism(study, summary),
        protocols=_protocols(study, summary),
        experiments={e: _experiment(study, layout, results, summary, intervals, e) for e in study.active_experiments},
        sheets=sheets,
        cells=records,
        checksums={d: raw_checksum(sheet) for d, sheet in sheets.items()},
        environment={"mmcontrast": code} | environment(),
    )
    with replacing(study.root / layout.report("index.html")) as temp:
        temp.write_text(html, encoding="utf-8")
    if not study.lost:
        shutil.rmtree(study.root / layout.partial().report(), ignore_errors=True)


def _overview(study: Study) -> str:
    cells = study.cells.values()
    datasets = ", ".join(study.datasets[d].title for d in dict.fromkeys(c.dataset for c in cells))
    numbers = sorted({len(c.seeds) for c in cells})
    seeds = count(numbers[0], "seed") if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]} seeds"
    methods = ", ".join(study.methods[m].title for m in dict.fromkeys(c.method for c in cells))
    return (
        f"{count(len(study.active_experiments), 'experiment')}, {count(len(cells), 'cell')} (a dataset, a method and a "
        f"variant each), {seeds} a cell. Datasets: {datasets}. Methods: {methods}."
    )


def _protocols(study: Study, summary: pl.DataFrame) -> list[tuple[str, str]]:
    """What the columns of the tables mean, as far as there are such."""
    shown = set(summary["protocol"])
    out = []
    scored_by = {cell.scored_by for cell in study.cells.values()}
    if scored_by - {"probe"}:
        out = [(PROTOCOL_TITLES[p], PROTOCOL_DEFINITIONS[p]) for p in PROTOCOL_TITLES if p in shown]
    if "probe" in scored_by:
        out.append(("Cells without a classifier", f"{PROBE_DEFINITION}."))
    return out


def _comparisons(
    study: Study, results: pl.DataFrame, summary: pl.DataFrame, intervals: pl.DataFrame
) -> list[dict[str, Any]]:
    """A statement a dataset, on its selecting metric, and a line a metric; nothing where no conclusion is allowed."""
    out = []
    for experiment in study.active_experiments:
        if study.experiments[experiment].kind != "table" or study.profile.overrides.given():
            continue
        if (asked := study.experiments[experiment].information) is not None:
            out += _kept(study, results, experiment, asked)
            continue
        own = summary.filter(experiment=experiment)
        for dataset in experiment_datasets(study, experiment):
            found = [
                c
                for metric in reported_metrics(study.datasets[dataset], study.experiments[experiment].views)
                if (c := compare(study, results, own, intervals, experiment, dataset, metric))
            ]
            if found:
                lines = [_comparison_line(study, c) for c in found]
                first = found[0]
                sentences = comparison_sentences(study, first)
                out.append(_statement(study, experiment, dataset, first.label, first.verdict, sentences, lines))
    return out


def _kept(study: Study, results: pl.DataFrame, experiment: str, asked: Information) -> list[dict[str, Any]]:
    """A statement for each size of data whose information is asked for, and a line for R, U, S and the control."""
    out = []
    for arms in active_arms(study, experiment):
        if found := held_against(study, results, experiment, arms):
            ours, held = found
            label = cell_label(study, ours.ref)
            chance = chances(study, asked, arms)
            sentences = ours.sentences(f"{label} on {study.datasets[arms.unbiased].title}", chance)
            sentences += few_seeds(ours.gain.n)
            lines = [_line(h.what, h.own, h.other, h.name, h.difference, h.p_holm, h.verdict) for h in held]
            out.append(_statement(study, experiment, arms.unbiased, label, held[-1].verdict, sentences, lines))
    return out


def _statement(
    study: Study,
    experiment: str,
    dataset: str,
    label: str,
    verdict: Verdict,
    sentences: list[str],
    lines: list[dict[str, str]],
) -> dict[str, Any]:
    return {
        "experiment": experiment,
        "title": study.experiments[experiment].title,
        "dataset": study.datasets[dataset].title,
        "label": label,
        "verdict": verdict,
        "sentences": sentences,
        "lines": lines,
    }


def _comparison_line(study: Study, c: Comparison) -> dict[str, str]:
    title = metric_title(c.metric, study.datasets[c.dataset])
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


def _optimism(study: Study, summary: pl.DataFrame) -> str:
    found = optimism(summary, {d: study.datasets[d].metrics[0] for d in study.dataset_names})
    if found is None or study.profile.overrides.given():
        return ""
    gain, n = found
    return (
        f"Choosing the epoch on the test split instead of on validation would have added {points(gain)} points of the "
        f"first metric on average over {count(n, 'cell')}, without a better model."
    )


def _experiment(
    study: Study, layout: Layout, results: pl.DataFrame, summary: pl.DataFrame, intervals: pl.DataFrame, name: str
) -> dict[str, Any]:
    own = summary.filter(experiment=name)
    table = build_table(study, results, intervals, name, layout)
    drawn = figures(study, name)
    datasets = experiment_datasets(study, name)
    return {
        "name": name,
        "table": table,
        "sources": [_source(study, name, d) for d in datasets],
        "parts": [
            {
                "title": study.datasets[d].title,
                "figures": [_figure(study, layout, f, n_test_cases(own, d)) for f in drawn if f.dataset == d],
                "blocks": [b for b in table.blocks if b.keys["dataset"] == d],
            }
            for d in datasets
            if any(f.dataset == d for f in drawn) or any(b.keys["dataset"] == d for b in table.blocks)
        ],
        "together": [b for b in table.blocks if b.keys["dataset"] == ALL],
        "together_figures": [_figure(study, layout, f, 0) for f in drawn if f.dataset == ALL],
        "table_files": [(suffix, f"tables/{name}.{suffix}") for suffix in TABLE_FORMATS],
    }


def _source(study: Study, experiment: str, dataset: str) -> dict[str, Any]:
    """What an experiment's numbers on a dataset come from."""
    return {
        "dataset": dataset,
        "title": study.datasets[dataset].title,
        "seeds": study.seeds_of(dataset),
        "cells": [(cell_label(study, c), cell_name(dataset, c)) for c in study.cells_on(experiment, dataset)],
    }


def _figure(study: Study, layout: Layout, spec: FigureSpec, n_cases: int) -> dict[str, Any]:
    return {
        "caption": figure_caption(study, spec, n_cases),
        "wide": _inlined(study.root / layout.figure(spec.name, "svg"), spec.experiment),
        "narrow": _inlined(study.root / layout.figure(spec.name, NARROW), spec.experiment),
        "files": [(suffix, f"figures/{spec.name}.{suffix}") for suffix in FIGURE_FORMATS],
    }


def _inlined(path: Path, experiment: str) -> str:
    """An SVG as a data URI: as an image of its own, so that ids inside it cannot clash with another figure's."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; run `mmcontrast report {experiment}` first")
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()
