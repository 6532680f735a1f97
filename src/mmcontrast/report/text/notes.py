"""What stands under a table: definitions, sizes, warnings, sources, and what was not run and why."""

from __future__ import annotations

from typing import Any

import polars as pl

from mmcontrast.config import Grid
from mmcontrast.report.outputs import experiment_datasets, is_probed
from mmcontrast.report.results import cell_name
from mmcontrast.report.tables.information import information_findings, information_notes
from mmcontrast.report.text.conclusions import (
    compare,
    comparison_sentences,
    n_test_cases,
    reproduction_sentences,
    reproductions,
)
from mmcontrast.report.text.wording import (
    PROBE_DEFINITION,
    PROTOCOL_DEFINITIONS,
    PROTOCOL_TITLES,
    cases_interval_name,
    metric_title,
    points,
    seeds_interval_name,
)

TIES = {"stable": "in the gallery's order", "pessimistic": "with wrong answers first"}


def table_notes(grid: Grid, summary: pl.DataFrame, experiment: str, across: str | None) -> list[str]:
    """Definitions, sizes, warnings and sources, in the order a reader needs them.

    Args:
        summary: of this experiment.
        across: title of the block over all datasets, if the table has one.
    """
    spec = grid.experiments[experiment]
    datasets = experiment_datasets(grid, experiment)
    notes = lost_notes(grid, experiment) + information_notes(grid, experiment)
    notes += protocol_notes(grid, summary, experiment)
    notes += interval_notes(grid, summary, datasets)
    if spec.reference is not None:
        notes.append(
            "Difference: mean over seeds of the two cells' scores of the same seed, with its bootstrap interval over "
            "seeds; p: paired t-test, corrected by Holm's method for the comparisons of a dataset and metric. It is "
            "left empty where the differences do not vary."
        )
    if across is not None:
        notes.append(
            f"{across}: mean of the middle half of all seeds' scores on all datasets; seeds resampled within datasets."
        )
    notes += [note for d in datasets for note in dataset_notes(grid, summary, d)]
    if spec.kind == "table" and spec.information is None:
        notes += _published_notes(grid, experiment, datasets)
    return notes + not_run_notes(grid, experiment)


def protocol_notes(grid: Grid, summary: pl.DataFrame, experiment: str) -> list[str]:
    """How the numbers of each column were chosen."""
    spec = grid.experiments[experiment]
    probed = [is_probed(grid, d, c) for d, c in grid.experiment_cells(experiment)]
    notes = []
    if not all(probed):
        shown = list(PROTOCOL_TITLES) if spec.kind == "table" else ["selected"]
        notes = [f"{PROTOCOL_TITLES[p]}: {PROTOCOL_DEFINITIONS[p]}" for p in shown if p in set(summary["protocol"])]
    if any(probed):
        who = PROTOCOL_TITLES["selected"] if all(probed) else "Cells without a classifier"
        notes.append(f"{who}: {PROBE_DEFINITION}.")
    return notes


def findings(
    grid: Grid, results: pl.DataFrame, summary: pl.DataFrame, intervals: pl.DataFrame, experiment: str
) -> list[str]:
    """What the numbers say in words: the own method against its baselines, and the printed numbers.

    Where the suite changes every cell's parameters they say nothing, and that is the only finding.
    """
    if grid.suite.overrides.given():
        return overrides_note(grid)
    out = information_findings(grid, results, experiment)
    if out:
        return out
    for dataset in experiment_datasets(grid, experiment):
        if grid.experiments[experiment].kind == "table":
            metric = grid.datasets[dataset].metrics[0]
            compared = compare(grid, results, summary, intervals, experiment, dataset, metric)
            out += [" ".join(comparison_sentences(grid, compared))] if compared else []
    return out + reproduction_sentences(grid, reproductions(grid, summary, experiment))


def overrides_note(grid: Grid) -> list[str]:
    """A warning where the suite changes every cell's parameters, since no conclusion follows then."""
    overrides = grid.suite.overrides.given()
    if not overrides:
        return []
    changed = ", ".join(f"{k} = {v}" for k, v in _flat(overrides))
    return [
        f"No conclusion follows from these numbers: the suite '{grid.suite_name}' changes every cell ({changed}). "
        f"{grid.suite.description}"
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    out = []
    for key, value in values.items():
        out += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return out


def interval_notes(grid: Grid, summary: pl.DataFrame, datasets: list[str]) -> list[str]:
    """What the brackets are, by dataset."""
    numbers = {d: len(grid.seeds_of(d)) for d in datasets}
    if set(numbers.values()) == {1}:
        return ["One seed: no interval over seeds exists, and nothing can be compared."]
    wide = "; ".join(
        f"{grid.datasets[d].title}: {cases_interval_name(n, n_test_cases(summary, d))}" for d, n in numbers.items()
    )
    narrow = "; ".join(seeds_interval_name(n) for n in sorted(set(numbers.values())))
    return [
        f"Brackets: {narrow}. With few seeds such an interval is rather too narrow.",
        f"Brackets of the column 'Selected, over seeds and test cases': {wide}.",
    ]


def dataset_notes(grid: Grid, summary: pl.DataFrame, dataset: str) -> list[str]:
    """What one test case is worth, and the dataset's own warnings."""
    data = grid.datasets[dataset]
    n = n_test_cases(summary, dataset)
    worth = (
        f"{n} test cases; one of them is {points(100 / n, digits=2)} points of accuracy."
        if data.retrieval is None
        else f"{n} test cases, which are the gallery; ties are ranked {TIES[data.retrieval.ties]}. Rsum is at most 600."
    )
    return [
        f"{data.title}: {worth}",
        *(f"{data.title}: {note}" for note in data.notes),
    ]


def _published_notes(grid: Grid, experiment: str, datasets: list[str]) -> list[str]:
    spec = grid.experiments[experiment]
    notes = []
    if spec.source and any(p.dataset in datasets for p in spec.published):
        notes.append(f"Published numbers: {' '.join(spec.source.split())}.")
    for d in datasets:
        printed = {m for p in spec.published if p.dataset == d for m in p.values}
        absent = [metric_title(m, grid.datasets[d]) for m in grid.datasets[d].metrics if m not in printed]
        if absent and spec.published:
            notes.append(f"{grid.datasets[d].title}: no published number was found for {', '.join(absent)}.")
    return notes


def lost_notes(grid: Grid, experiment: str) -> list[str]:
    """Cells of a partial report that have no result, and why."""
    return [
        f"No result of {name}: {grid.lost[name]}"
        for d in grid.experiments[experiment].datasets
        for c in grid.cells_on(experiment, d, with_lost=True)
        if (name := cell_name(d, c)) in grid.lost
    ]


def not_run_notes(grid: Grid, experiment: str) -> list[str]:
    """Datasets of the paper, or of the experiment, that have no rows here, and why."""
    spec = grid.experiments[experiment]
    notes = [f"Not run: {name}: {reason}." for name, reason in spec.not_run.items()]
    left_out = [grid.datasets[d].title for d in spec.datasets if d not in grid.dataset_names]
    if left_out:
        notes.append(f"Not run: {', '.join(left_out)}: not among the datasets of the suite '{grid.suite_name}'.")
    return notes
